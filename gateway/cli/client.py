"""A client of a vidgate gateway over HTTP: submit, follow, fetch. It knows nothing of the gateway's insides."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway.cli.exit_codes import CommandError, ExitCode, code_of_status
from providers.contract import Clock

URL_VARIABLE = "VIDGATE_URL"
KEY_VARIABLE = "VIDGATE_KEY"
URL_USUAL = "http://127.0.0.1:8080"
TERMINAL = frozenset({"succeeded", "failed", "canceled", "expired"})
CALL_TIMEOUT_S = 90.0
# A young job is looked at often, for its stages change fast; an older one with a call that ends when the job ends.
LOOK_PAUSE_S = 0.2
YOUNG_S = 10.0
WAIT_S = 2


@dataclass(frozen=True, slots=True)
class Submission:
    """A request as the caller writes it: a picture, as bytes or as a link, and parameters by their names as text."""

    image: bytes | str
    parameters: Mapping[str, str] = field(default_factory=dict)
    fit: str = "exact"
    routing: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str = ""


def own_http() -> httpx.AsyncClient:
    """An HTTP client for addresses of this machine and of the operator; no proxy is taken from the environment."""
    return httpx.AsyncClient(timeout=CALL_TIMEOUT_S, trust_env=False)


@asynccontextmanager
async def connect(url: str, key: str) -> AsyncIterator[GatewayClient]:
    """A client of the gateway at a URL, for as long as the block runs."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=CALL_TIMEOUT_S) as http:
        yield GatewayClient(http)


class GatewayClient:
    """The gateway's resources; every failure is a CommandError that says what mends it."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def submit(self, wanted: Submission, media: str = "video") -> dict[str, Any]:
        """Ask for a video and answer with the new job.

        Sent as multipart under an idempotency key, so that sending it again cannot make a second job.
        """
        fields = dict(wanted.parameters) | {"fit": wanted.fit}
        for name, value in (("routing", wanted.routing), ("metadata", wanted.metadata)):
            if value:
                fields[name] = json.dumps(dict(value))
        parts: dict[str, tuple[str | None, str | bytes]] = {name: (None, text) for name, text in fields.items()}
        parts["image"] = ("image", wanted.image) if isinstance(wanted.image, bytes) else (None, wanted.image)
        key = wanted.idempotency_key or secrets.token_urlsafe(18)
        response = await self._call("POST", f"/generate/{media}", files=parts, headers={"idempotency-key": key})
        job: dict[str, Any] = response.json()
        return job

    async def job(self, job_id: str, wait_s: int = 0) -> dict[str, Any]:
        """A job as it stands; with `wait_s` the gateway holds the line for its end for that long."""
        headers = {"prefer": f"wait={wait_s}"} if wait_s else {}
        response = await self._call("GET", f"/jobs/{job_id}", headers=headers)
        job: dict[str, Any] = response.json()
        return job

    async def follow(self, job: dict[str, Any], clock: Clock, timeout_s: float) -> AsyncIterator[dict[str, Any]]:
        """The job now and after every look at it, until it has ended or the time is over."""
        began_at = clock.now()
        while True:
            yield job
            waited_s = clock.now() - began_at
            if job["status"] in TERMINAL or waited_s >= timeout_s:
                return
            await clock.sleep(min(LOOK_PAUSE_S, timeout_s - waited_s))
            job = await self.job(job["id"], wait_s=0 if waited_s < YOUNG_S else WAIT_S)

    async def save(self, job_id: str, file: Path, number: int = 0) -> int:
        """Write a finished file of a job to a path, whole or not at all, and answer with its size in bytes."""
        response = await self._call("GET", f"/jobs/{job_id}/content", params={"file": str(number)})
        partial = file.with_name(file.name + ".part")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(response.content)
            partial.replace(file)
        except OSError as error:
            raise CommandError(ExitCode.USAGE, f"{file} cannot be written: {error.strerror}") from error
        return len(response.content)

    async def cancel(self, job_id: str) -> None:
        """Ask for a job to be stopped."""
        await self._call("POST", f"/jobs/{job_id}/cancel")

    async def routes(self) -> list[dict[str, Any]]:
        """Every route with its price, its statistics and what it takes."""
        response = await self._call("GET", "/routes")
        routes: list[dict[str, Any]] = response.json()["routes"]
        return routes

    async def _call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        files: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        try:
            response = await self._http.request(method, path, headers=headers, params=params, files=files)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise CommandError(
                ExitCode.UNREACHABLE,
                f"no gateway answers at {self._http.base_url}: {str(error) or type(error).__name__}",
                f"start one with `vidgate dev`, or name another with --url or {URL_VARIABLE}",
            ) from error
        if response.is_error:
            raise _refusal(response)
        return response


def _refusal(response: httpx.Response) -> CommandError:
    """An error reply as a CommandError: the problem's own words, and what it says of each route."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    title, detail = problem.get("title"), problem.get("detail")
    what = ": ".join(str(part) for part in (title or f"HTTP {response.status_code}", detail) if part)
    for refused in problem.get("refused", ()):
        what += f"\n  {refused.get('route')}: {'; '.join(refused.get('reasons', ()))}"
    mend = problem.get("hint", "")
    if response.status_code == httpx.codes.UNAUTHORIZED:
        mend = f"give a key with --key or {KEY_VARIABLE}; `vidgate keys create` makes one"
    return CommandError(code_of_status(response.status_code), what, mend)
