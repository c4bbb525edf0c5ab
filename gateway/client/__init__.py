"""A client of a vidgate gateway for Python programs, blocking and for asyncio.

    from gateway.client import Vidgate

    with Vidgate() as vidgate:  # by VIDGATE_URL and VIDGATE_KEY, or Vidgate(url, key=key)
        job = vidgate.generate_video("photo.jpg", motion=90, frames=25, on_progress=print)
        vidgate.save(job, "out.mp4")

It speaks HTTP alone and knows nothing of the gateway's insides. `Vidgate` blocks, `AsyncVidgate` is awaited; both have
the same methods. A request is sent again by itself while the gateway is busy, restarts or does not answer, always under
one Idempotency-Key, so that it cannot become two jobs.
"""

from __future__ import annotations

from gateway.client.asynchronous import AsyncVidgate
from gateway.client.blocking import Vidgate
from gateway.client.errors import (
    BudgetExceededError,
    DamagedError,
    GatewayUnavailableError,
    JobFailedError,
    JobStillRunningError,
    NotAllowedError,
    NotVidgateError,
    RefusedError,
    UnreachableError,
    VidgateError,
)
from gateway.client.flows import Retries, Submission
from gateway.client.resources import Job, OutputFile

__all__ = [
    "AsyncVidgate",
    "BudgetExceededError",
    "DamagedError",
    "GatewayUnavailableError",
    "Job",
    "JobFailedError",
    "JobStillRunningError",
    "NotAllowedError",
    "NotVidgateError",
    "OutputFile",
    "RefusedError",
    "Retries",
    "Submission",
    "UnreachableError",
    "Vidgate",
    "VidgateError",
]
