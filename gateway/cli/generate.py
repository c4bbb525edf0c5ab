"""`vidgate generate`, `wait` and `routes`: a client of any gateway, on the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli import report
from gateway.cli.client import connect, looks, save
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.options import AsJson, Follow, Gateway, Request, read_pairs, unfolded, vocabulary
from gateway.cli.output import duration, note_console, print_json, result_console, state, table, usd
from gateway.cli.progress import watch
from gateway.client import AsyncVidgate, Job, Submission
from gateway.clock import SystemClock


@unfolded(parameters=vocabulary("video"))
def generate(
    image: Annotated[str, typer.Argument(help="Picture: a file, or an https link.", show_default=False)],
    *,
    request: Request,
    follow: Follow,
    gateway: Gateway,
    parameters: Mapping[str, str],
) -> None:
    """Make a video of a picture and write it to a file.

    Progress goes to standard error; plan, receipt and bill to standard output,
    or the whole job with --json. Interrupting this command does not stop the
    job: `vidgate wait JOB` takes it up again.

    [bold]Examples[/]
        vidgate generate photo.jpg -o out.mp4
        vidgate generate photo.jpg --num-frames 25 --fps 12 --motion-bucket-id 90
        vidgate generate photo.jpg -p motion="Pan Left" --max-cost-usd 0.20
        vidgate generate photo.jpg --camera-motion zoom_in --fit nearest --json
    """
    others = read_pairs(request.pairs, "--parameter")
    twice = sorted(set(others) & set(parameters))
    if twice:
        raise CommandError(ExitCode.USAGE, f"{twice[0]} is given both as an option and with --parameter")
    asked = {"fit": request.fit, "routing": request.routing(), "metadata": read_pairs(request.tags, "--tag")}
    submission = Submission(read_picture(image), {**parameters, **others, **asked}, request.idempotency_key)
    asyncio.run(_generate(gateway, submission, follow))


def read_picture(image: str) -> bytes | str:
    """The bytes of a picture file, or the link as it is. Raises CommandError when the file cannot be read."""
    if image.startswith(("https://", "http://", "data:")):
        return image
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise CommandError(ExitCode.USAGE, f"{image} cannot be read: {error.strerror}") from error


async def _generate(gateway: Gateway, submission: Submission, follow: Follow) -> None:
    async with connect(gateway.url, gateway.key) as client:
        await _finish(client, await client.submit(submission), follow)


@unfolded()
def wait(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.", show_default=False)],
    *,
    follow: Follow,
    gateway: Gateway,
) -> None:
    """Wait for a job that was submitted before, and write its result to a file.

    [bold]Example[/]
        vidgate wait job_0197f2c4a1b2 -o out.mp4
    """
    asyncio.run(_wait(gateway, job, follow))


async def _wait(gateway: Gateway, job_id: str, follow: Follow) -> None:
    async with connect(gateway.url, gateway.key) as client:
        await _finish(client, await client.job(job_id), follow)


async def _finish(client: AsyncVidgate, submitted: Job, follow: Follow) -> None:
    """Follow a job to its end, save what it made, and tell it."""
    clock = SystemClock()
    try:
        job = await watch(looks(client, submitted, follow.timeout_s), note_console(), clock)
    except asyncio.CancelledError:
        note_console().print(f"the job goes on; take it up again with: [bold]vidgate wait {submitted.id}[/]")
        raise
    saved = [await _save(client, job, number, follow) for number in range(_file_count(job))]
    if follow.as_json:
        print_json(job | {"saved": [str(path) for path in saved]})
    else:
        console = result_console()
        report.show_job(console, job)
        if saved:
            console.print(report.result_lines(job, saved))
    if job["status"] in {"queued", "running"}:
        raise CommandError(
            ExitCode.STILL_RUNNING,
            f"{job['id']} still runs after {duration(follow.timeout_s)}; nothing is lost",
            f"vidgate wait {job['id']}",
        )
    if job["status"] != "succeeded":
        raise CommandError(ExitCode.JOB_FAILED, f"{job['id']} {job['status']}")


def _file_count(job: Mapping[str, Any]) -> int:
    return len(job["result"]["files"]) if job["result"] else 0


async def _save(client: AsyncVidgate, job: Mapping[str, Any], number: int, follow: Follow) -> Path:
    ending = str(job["result"]["files"][number]["media_type"]).rpartition("/")[2]
    path = Path(follow.output or f"{job['id']}.{ending}")
    if number:
        path = path.with_stem(f"{path.stem}-{number + 1}")
    await save(client, str(job["id"]), path, number)
    return path


@unfolded()
def routes(
    *,
    capabilities: Annotated[bool, typer.Option("--capabilities", help="Also list what each route takes.")] = False,
    as_json: AsJson = False,
    gateway: Gateway,
) -> None:
    """List the routes of a gateway: price, times, success, breaker, credit, runway, and what each takes.

    [bold]Examples[/]
        vidgate routes
        vidgate routes --capabilities
        vidgate routes --json
    """
    asyncio.run(_routes(gateway, capabilities, as_json))


async def _routes(gateway: Gateway, capabilities: bool, as_json: bool) -> None:
    async with connect(gateway.url, gateway.key) as client:
        found = await client.routes()
    if as_json:
        print_json(found)
        return
    show_routes(found)
    if capabilities:
        for route in found:
            show_capabilities(route)


def show_routes(found: Sequence[Mapping[str, Any]]) -> None:
    """The routes, a line each where the terminal is wide enough for a line."""
    rows = table(
        "route", "makes", ">price", ">p50", ">p95", ">success", "breaker", ">credit", ">lasts", ">in flight", "summary",
        spare=("summary", "in flight", "lasts", "makes", "success", "p95", "credit"),
    )  # fmt: skip
    for route in found:
        price, seen = route["price"], route["statistics"]
        rows.add_row(
            route["name"],
            route["media"],
            usd(price["usual_micros"]) if price else "none",
            duration(seen["p50_s"]),
            duration(seen["p95_s"]),
            f"{100 * seen['success_rate']:.0f} %",
            state(seen["breaker"]),
            usd(route["credit"].get("balance_micros")),
            hours(route["credit"].get("runway_h")),
            str(route["in_flight"]),
            route["summary"],
        )
    result_console().print(rows)


def hours(runway_h: float | None) -> str:
    """How long credit lasts; unknown or not shown is a dash."""
    return "-" if runway_h is None else f"{runway_h:.0f} h"


def show_capabilities(route: Mapping[str, Any]) -> None:
    """What one route takes, a row a parameter."""
    rows = table("parameter", "takes", "vendor's name", "honoured by", "note", title=route["name"])
    for row in route["capabilities"]:
        needed = f"{row['parameter']} (required)" if row["required"] else row["parameter"]
        rows.add_row(needed, row["takes"], row["vendor_name"] or "", row["by"], row["note"])
    result_console().print(rows)
