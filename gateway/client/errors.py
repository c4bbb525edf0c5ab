"""What can go wrong for a client of the gateway.

VidgateError
├── UnreachableError           nobody answers at the address
├── RefusedError               the gateway answered with an error: `problem` is its RFC 9457 document
│   ├── NotAllowedError          401, 403: no key, or one that may not do that
│   ├── BudgetExceededError      402: the budget does not cover it
│   └── GatewayUnavailableError  5xx, also after every repetition
├── NotVidgateError            what answers is no gateway: a proxy's page, say
├── JobFailedError             the job ended without a result: failed, canceled or expired
├── JobStillRunningError       the time given to wait is over; nothing is lost
└── DamagedError               what was fetched is not what the gateway stored
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from gateway.client.resources import Job


class VidgateError(Exception):
    """Anything that this client raises."""


class UnreachableError(VidgateError):
    """Nobody answers at the address, also after every repetition."""


class RefusedError(VidgateError):
    """The gateway answered with an error.

    `status` is HTTP's, `problem` the RFC 9457 document, empty when something in between answered otherwise. `hint` says
    what mends it, where the gateway knows; `reasons` has what speaks against each route.
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.hint = str(problem.get("hint") or "")
        refused = problem.get("refused")
        self.reasons: dict[str, list[str]] = {
            str(one.get("route")): [str(reason) for reason in one.get("reasons", ())]
            for one in (refused if isinstance(refused, list) else ())
            if isinstance(one, dict)
        }
        title, detail = problem.get("title") or f"HTTP {status}", problem.get("detail")
        lines = [": ".join(str(part) for part in (title, detail) if part)]
        lines += [f"  {route}: {'; '.join(reasons)}" for route, reasons in self.reasons.items()]
        super().__init__("\n".join(lines))

    @property
    def kind(self) -> str:
        """The last part of the problem's type, such as `no-eligible-route`; empty when there is none."""
        return str(self.problem.get("type") or "").rpartition("/")[2]


class NotVidgateError(VidgateError):
    """What answers at the address is no vidgate gateway."""


class NotAllowedError(RefusedError):
    """There is no key, or the key may not do that."""


class BudgetExceededError(RefusedError):
    """The budget does not cover the request; `problem` has the limit, what is spent and held, and when it resets."""


class GatewayUnavailableError(RefusedError):
    """The gateway is out of order or has no room, also after every repetition."""


class _JobError(VidgateError):
    def __init__(self, job: Job, text: str) -> None:
        super().__init__(text)
        self.job = job


class JobFailedError(_JobError):
    """The job ended without a result; `job` says why, and it costs nothing."""


class JobStillRunningError(_JobError):
    """The time given to wait is over and the job still runs: wait for it again by its id."""


class DamagedError(VidgateError):
    """What was fetched is not what the gateway stored, also when it was fetched again."""


def refusal(response: httpx.Response) -> RefusedError:
    """The error of a reply."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    return refused(response.status_code, problem if isinstance(problem, dict) else {})


def refused(status: int, problem: Mapping[str, Any]) -> RefusedError:
    """The error of a status and its problem."""
    kinds: dict[int, type[RefusedError]] = {401: NotAllowedError, 402: BudgetExceededError, 403: NotAllowedError}
    kind = kinds.get(status, GatewayUnavailableError if status >= httpx.codes.INTERNAL_SERVER_ERROR else RefusedError)
    return kind(status, problem)


def unfinished(job: Job) -> VidgateError:
    """The error of a job that has no result."""
    if not job.ended:
        return JobStillRunningError(job, f"{job.id} still runs; nothing is lost")
    detail = (job.error or {}).get("detail") or (job.error or {}).get("title") or ""
    return JobFailedError(job, f"{job.id} {job.status}" + (f": {detail}" if detail else ""))
