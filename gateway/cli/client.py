"""The client of a gateway as the command line uses it: its jobs as documents, its failures as CommandErrors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from gateway.cli.exit_codes import CommandError, ExitCode, code_of_status
from gateway.client import (
    AsyncVidgate,
    Job,
    JobStillRunningError,
    NotAllowedError,
    RefusedError,
    Retries,
    UnreachableError,
    VidgateError,
)
from gateway.client.connection import CALL_TIMEOUT_S, KEY_VARIABLE, URL_VARIABLE

# Somebody sits in front of it: a gateway that is not there is told within two seconds.
RETRIES = Retries(most=3, first_s=0.2)


def own_http() -> httpx.AsyncClient:
    """An HTTP client for addresses of this machine and of the operator; no proxy is taken from the environment."""
    return httpx.AsyncClient(timeout=CALL_TIMEOUT_S, trust_env=False)


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator[AsyncVidgate]:
    """A client of the gateway at a URL, for as long as the block runs. Raises CommandError for whatever fails in it."""
    async with AsyncVidgate(url, key=key, retries=RETRIES) as client:
        with told(url):
            yield client


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn what a client of the gateway at this address raises into a CommandError that says what mends it."""
    try:
        yield
    except VidgateError as error:
        raise _command_error(error, url) from error


async def looks(client: AsyncVidgate, job: Job, timeout_s: float) -> AsyncIterator[dict[str, Any]]:
    """The job's document now and after every look at it, until it has ended or the time is over."""
    async for seen in client.follow(job, timeout_s=timeout_s):
        yield dict(seen.raw)


async def save(client: AsyncVidgate, job_id: str, file: Path, number: int = 0) -> int:
    """Write a finished file of a job to a path, whole or not at all, and answer with its size in bytes."""
    try:
        return await client.save(job_id, file, number)
    except OSError as error:
        raise CommandError(ExitCode.USAGE, f"{file} cannot be written: {error.strerror}") from error


def _command_error(error: VidgateError, url: str) -> CommandError:
    if isinstance(error, UnreachableError):
        mend = f"start one with `vidgate dev`, or name another with --url or {URL_VARIABLE}"
        return CommandError(ExitCode.UNREACHABLE, f"no gateway answers at {url}: {error}", mend)
    if isinstance(error, RefusedError):
        lacks_key = isinstance(error, NotAllowedError) and error.status == httpx.codes.UNAUTHORIZED
        mend = f"give a key with --key or {KEY_VARIABLE}; `vidgate keys create` makes one" if lacks_key else error.hint
        return CommandError(code_of_status(error.status), str(error), mend)
    if isinstance(error, JobStillRunningError):
        return CommandError(ExitCode.STILL_RUNNING, str(error), f"vidgate wait {error.job.id}")
    return CommandError(ExitCode.JOB_FAILED, str(error))
