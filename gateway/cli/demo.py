"""`vidgate demo`: one picture to one finished, billed video, on simulated vendors, with a vendor's fault on the way."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import httpx
import typer
from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text
from starlette.applications import Starlette

from gateway.app import build_app
from gateway.cli import report
from gateway.cli.client import connect, looks, own_http, save
from gateway.cli.development import TEAM, DevPlan, dev_configuration, draw_scene, take_state
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.generate import read_picture
from gateway.cli.logs import log_to
from gateway.cli.output import result_console, table, usd
from gateway.cli.progress import watch
from gateway.cli.sandbox import ADMIN
from gateway.cli.servers import SimulatorPlan, installed, run, served, simulators, take_port
from gateway.client import Submission
from gateway.clock import SystemClock
from gateway.media.verify import BadMedia, inspect_media
from gateway.money import audit
from gateway.service import Service

# Written with aliases, as people do; the receipt shows what became of each.
WANTED = {"frames": "25", "fps": "12", "motion": "90"}
FRAMES_WANTED = 25
FAULT = {"operation": "submit", "fault": "502_before_accept", "count": 1}
MARGIN_PERCENT = 10
WAIT_S = 120.0
LOG_FILE = "demo.log"


@dataclass(frozen=True, slots=True)
class Demo:
    """What the demonstration works with. `speed` is how many times faster than life the vendors are."""

    console: Console
    image: Path
    folder: Path
    speed: float

    def step(self, text: str) -> None:
        """Say that one thing is done."""
        self.console.print(Text.assemble(("  ✓ ", "green"), Text.from_markup(text)))


def demo(
    image: Annotated[
        Optional[Path],  # noqa: UP045 - read at run time
        typer.Argument(help="Your own picture; else a scene is drawn.", show_default=False),
    ] = None,
    *,
    folder: Annotated[Path, typer.Option(help="Where the picture, the video and the log go.")] = Path("var/demo"),
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than life the vendors are.")] = 10.0,
) -> None:
    """Show the whole path of one request on this machine, in under a minute after the install.

    It starts a gateway and simulated vendors on free ports, makes the first submit
    fail with a 502, sends a picture as a client would, and shows the plan, the
    receipt, the attempts, the bill, the ledger and a playable MP4.

    [bold]Examples[/]
        vidgate demo
        vidgate demo photo.jpg
    """
    picture = image or draw_scene(folder)
    if picture is None:
        raise CommandError(ExitCode.USAGE, "the demonstration picture is not installed", "vidgate demo photo.jpg")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG_FILE).open("w", encoding="utf-8") as log:
        log_to(log)
        run(_demo(Demo(result_console(), picture, folder, speed)))


async def _demo(demo: Demo) -> None:
    demo.console.print(Rule("[bold]vidgate[/]  one picture, one finished and billed video", style="dim"), "")
    known = installed()
    listener, url = take_port(0, "127.0.0.1", "--port")
    with listener, tempfile.TemporaryDirectory(prefix="vidgate-demo-") as state_folder:
        plan = DevPlan(Path(state_folder), url, demo.speed, MARGIN_PERCENT)
        async with simulators(known, SimulatorPlan(0, demo.speed)) as vendors:
            state, configuration = await take_state(
                plan.folder, lambda secret: dev_configuration(plan, vendors, known, secret)
            )
            app = build_app(configuration.settings)
            async with served(app, listener):
                demo.step(f"gateway at [bold]{url}[/]")
                for name, vendor in vendors.items():
                    demo.step(f"[bold]{name}[/] at {vendor}, simulated, {demo.speed:g} times faster than life")
                await _spoil(list(vendors.values()))
                demo.step("the first submit at each vendor will be answered [yellow]502 Bad Gateway[/]")
                await _show(demo, app, url, state.key)


async def _spoil(vendors: list[str]) -> None:
    """Script the fault at every simulator: which of them gets the job is the router's choice."""
    async with own_http() as http:
        for vendor in vendors:
            response = await http.post(vendor + ADMIN + "/faults", json=FAULT)
            assert response.status_code == httpx.codes.OK, response.text


async def _show(demo: Demo, app: Starlette, url: str, key: str) -> None:
    """Send the picture as a client, follow the job, and tell everything that is known of it."""
    clock = SystemClock()
    async with connect(url, key) as client:
        fields = "  ".join(f"{name}={value}" for name, value in WANTED.items())
        demo.step(f"POST /generate/video  image=@{demo.image.name}  {fields}")
        demo.console.print()
        wanted = {**WANTED, "routing": {"deadline_s": 300}}
        submitted = await client.submit(Submission(read_picture(str(demo.image)), wanted))
        job = await watch(looks(client, submitted, WAIT_S), demo.console, clock, pace=demo.speed)
        report.show_job(demo.console, job)
        sound = await _show_ledger(demo.console, app.state.service)
        if job["status"] != "succeeded":
            raise CommandError(ExitCode.JOB_FAILED, f"the job {job['status']}", f"look into {demo.folder / LOG_FILE}")
        video = demo.folder / f"{demo.image.stem}.mp4"
        await save(client, job["id"], video)
    _show_video(demo, job, video)
    if not sound:
        raise CommandError(ExitCode.JOB_FAILED, "the ledger does not add up")


async def _show_ledger(console: Console, service: Service) -> bool:
    """The balance of every account, whether they sum to nothing, and every rule of the ledger checked."""
    store = service.parts.store
    balances = await store.read(audit.trial_balance)
    broken = await store.read(audit.check)
    rows = table("account", ">balance")
    for account, micros in balances.items():
        rows.add_row(f"team {TEAM}" if account.startswith("team:") else account.replace(":", " "), usd(micros))
    total_micros = sum(balances.values())
    sound = total_micros == 0 and not broken
    rows.columns[0].footer, rows.columns[1].footer = "sum", usd(total_micros)
    verdict = "it adds up, and no rule is broken" if sound else "; ".join(["it does not add up", *broken])
    console.print(report.heading("Ledger", "double entry: what the team owes, to whom it goes"), rows)
    console.print(Text.assemble(("  ✓ " if sound else "  ✗ ", "green" if sound else "red"), verdict))
    return sound


NEXT = {
    "dev": "keeps such a gateway running",
    "generate photo.jpg": "sends it a picture",
    "sandbox": "serves the simulated vendors alone",
}


def _show_video(demo: Demo, job: dict[str, Any], video: Path) -> None:
    """Open the file that a player would open, count its frames, and say how to go on."""
    try:
        found = inspect_media(video.read_bytes())
    except BadMedia as error:
        raise CommandError(ExitCode.JOB_FAILED, f"{video} cannot be played: {error}") from error
    if found.num_frames != FRAMES_WANTED:
        raise CommandError(ExitCode.JOB_FAILED, f"{video} has {found.num_frames} frames, not {FRAMES_WANTED}")
    demo.console.print(report.heading("Video"))
    demo.console.print(Text.assemble(("  ✓ ", "green"), (str(video), "bold"), "  opened and decoded to the last frame"))
    demo.console.print(f"    {report.file_facts(job['result']['files'][0])}, {found.codec}")
    called = Path(sys.argv[0])  # by its path where it is not on the PATH, as after `make demo`
    program = str(called) if called.name == "vidgate" and not shutil.which("vidgate") else "vidgate"
    width = len(program) + len(max(NEXT, key=len)) + 4
    after = Group(
        *(Text.assemble((f"{program} {words}".ljust(width), "bold"), what) for words, what in NEXT.items()),
    )
    demo.console.print(
        Padding(Panel(after, title="Next", title_align="left", border_style="dim", expand=False), (1, 0, 0, 0))
    )
