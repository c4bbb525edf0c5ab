"""The live line while a job runs: its stage, a bar, and the time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gateway.client.resources import TERMINAL
from providers.contract import Clock

STAGES: Mapping[str, str] = {
    "queued": "queued",
    "routing": "choosing a route",
    "waiting": "waiting for a route",
    "submitting": "submitting",
    "retrying": "submitting again",
    "in_doubt": "finding out whether the submit was accepted",
    "rendering": "rendering",
    "parked": "held back after faults, until an operator looks at it",
    "delivering": "fetching and checking the result",
}
# The bar stops short of its end until the gateway says that the job has ended.
UNFINISHED_MAX = 0.97
REMAINDER_MIN_S = 0.5


def describe(job: Mapping[str, Any]) -> str:
    """What a job is doing, in a few words, with the route of its latest attempt."""
    if job["status"] in TERMINAL:
        return f"{job['status']} on {job['route']}" if job["route"] else str(job["status"])
    stage = job["progress"]["stage"]
    words = STAGES.get(stage, str(stage).replace("_", " "))
    attempts = job["attempts"]
    if not attempts:
        return words
    latest = attempts[-1]
    submits = f", submit {latest['submits']}" if latest["submits"] > 1 else ""
    return f"{words} on {latest['route']}{submits}"


def fraction(job: Mapping[str, Any], elapsed_s: float) -> float:
    """How much is done, 0 to 1: what the vendor says, else time passed over time expected."""
    if job["status"] in TERMINAL:
        return 1.0
    said = job["progress"]["fraction"]
    if said is not None:
        return min(float(said), UNFINISHED_MAX)
    left_s = job["progress"]["eta_s"]
    if left_s is None:
        ranked = job["plan"]["ranked"]
        left_s = (ranked[0]["p50_s"] if ranked else elapsed_s) - elapsed_s
    left_s = max(float(left_s), REMAINDER_MIN_S)
    return min(elapsed_s / (elapsed_s + left_s), UNFINISHED_MAX)


async def watch(
    looks: AsyncIterator[dict[str, Any]], console: Console, clock: Clock, *, pace: float = 1.0
) -> dict[str, Any]:
    """Show every look at a job as it comes, and answer with the last one.

    On a terminal a bar moves; elsewhere each new stage is one line. `pace` is how many times faster than usual the
    vendors are known to be.
    """
    if console.is_terminal:
        return await _bar(looks, console, clock, pace)
    job: dict[str, Any] = {}
    said = ""
    async for job in looks:
        if describe(job) != said:
            said = describe(job)
            console.print(f"{job['id']}: {said}", markup=False, soft_wrap=True)
    return job


async def _bar(looks: AsyncIterator[dict[str, Any]], console: Console, clock: Clock, pace: float) -> dict[str, Any]:
    started_at, done = clock.now(), 0.0
    job: dict[str, Any] = {}
    columns = (
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("[progress.percentage]{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("queued", total=1.0)
        async for job in looks:
            done = max(done, fraction(job, (clock.now() - started_at) * pace))
            progress.update(task, description=describe(job), completed=done)
    return job
