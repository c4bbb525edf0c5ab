"""`vidgate serve` and `vidgate dev`: a gateway for vendors, and one for a developer."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Annotated, Optional

import typer

from gateway.app import build_app
from gateway.cli.development import DevPlan, DevState, dev_configuration, draw_scene, take_state
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.logs import log_to
from gateway.cli.options import AsJson
from gateway.cli.output import note_console, print_json, result_console, table
from gateway.cli.servers import PORT_BASE, SimulatorPlan, installed, run, serve_until_stopped, simulators, take_port
from gateway.clock import SystemClock
from gateway.config import Configuration, load
from gateway.config_errors import place
from gateway.reload import Source
from gateway.store.database import StoreError

CONFIG_VARIABLE = "VIDGATE_CONFIG"
ConfigFile = Annotated[
    Optional[Path],  # noqa: UP045 - read at run time
    typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, metavar="FILE", help="The configuration file (YAML)."),
]


def read_configuration(file: Path | None) -> Configuration:
    """The configuration in a file. Raises CommandError when none is named: nothing is assumed about vendors."""
    if file is None:
        raise CommandError(
            ExitCode.USAGE,
            "no configuration is named, and vidgate never puts a simulator in a vendor's place by itself",
            "copy examples/vidgate.yaml and name it with --config, or start simulated vendors with `vidgate dev`",
        )
    return load(file, environment=os.environ, plugins=installed(), at=SystemClock().now())


def show_warnings(configuration: Configuration) -> None:
    """Say what works less well than it may seem."""
    for warning in configuration.warnings:
        note_console().print(f"[yellow]warning:[/] [bold]{place(warning.path)}[/]: {warning.detail}")


def serve(*, config: ConfigFile = None) -> None:
    """Serve the gateway with the vendors of a configuration file.

    It stops on SIGTERM or Ctrl-C: no new work is taken, what is quick is finished,
    and the rest is handed over through the database.

    When the file or its price book changes, or on SIGHUP, it is read again: what may
    change while running does, a bad file changes nothing, and GET /readyz says which.

    [bold]Examples[/]
        vidgate serve --config vidgate.yaml
        VIDGATE_CONFIG=vidgate.yaml vidgate serve
    """
    configuration = read_configuration(config)
    show_warnings(configuration)
    log_to()
    assert config is not None
    run(_serve(configuration, Source(config, lambda: read_configuration(config))))


async def _serve(configuration: Configuration, source: Source) -> None:
    server = configuration.settings.server
    listener, url = take_port(server.port, server.host, "server.port in the configuration")

    def ready() -> None:
        note_console().print(f"vidgate serves at [bold]{url}[/] with {len(configuration.routes)} routes")

    with listener:
        try:
            await serve_until_stopped(build_app(configuration.settings, source=source), listener, ready, server)
        except StoreError as error:
            raise CommandError(ExitCode.USAGE, str(error)) from error


def dev(
    *,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the gateway; 0 takes a free one.")] = 8080,
    port_base: Annotated[int, typer.Option(min=0, help="First port of the simulators; 0 takes free ones.")] = PORT_BASE,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than life the vendors are.")] = 10.0,
    folder: Annotated[Path, typer.Option(help="Where database, artifacts and keys are kept.")] = Path("var"),
    as_json: AsJson = False,
) -> None:
    """Serve a gateway with simulated vendors, for development. No money is real.

    Everything runs in this process and is kept in one folder. The vendors are
    simulated over real HTTP; `vidgate sandbox` sets their faults while this runs.

    [bold]Examples[/]
        vidgate dev
        vidgate dev --speed 1              vendors as slow as in life
        vidgate dev --port 0 --port-base 0  any free ports
    """
    log_to()
    run(_dev(port, folder, SimulatorPlan(port_base, speed), as_json))


async def _dev(port: int, folder: Path, plan: SimulatorPlan, as_json: bool) -> None:
    listener, url = take_port(port, plan.host, "--port")
    where = DevPlan(folder, url, plan.speed)
    with listener:
        if not as_json:
            draw_scene(folder)  # before the loop serves anybody: drawing takes a second
        await _serve_dev(where, listener, plan, as_json)


async def _serve_dev(where: DevPlan, listener: socket.socket, plan: SimulatorPlan, as_json: bool) -> None:
    known = installed()
    async with simulators(known, plan) as vendors:
        try:
            state, configuration = await take_state(
                where.folder, lambda secret: dev_configuration(where, vendors, known, secret)
            )
            app = build_app(configuration.settings)
            await serve_until_stopped(
                app, listener, lambda: _introduce(where, vendors, state, as_json), configuration.settings.server
            )
        except StoreError as error:
            raise CommandError(ExitCode.USAGE, str(error), "another folder with --folder") from error


def _introduce(where: DevPlan, vendors: dict[str, str], state: DevState, as_json: bool) -> None:
    if as_json:
        print_json({"url": where.url, "key": state.key, "simulators": vendors, "folder": str(where.folder)})
        return
    console = result_console()
    rows = table("vidgate dev", "")
    rows.add_row("gateway", f"[bold]{where.url}[/]")
    rows.add_row("API key", f"{state.key}")
    for name, vendor in vendors.items():
        rows.add_row(name, f"{vendor}  [dim]simulated, {where.speed:g} times faster than life[/]")
    rows.add_row("kept in", f"{where.folder}/")
    rows.add_row("API", f"{where.url}/openapi.json")
    console.print(rows, "")
    picture = draw_scene(where.folder) or Path("photo.jpg")
    console.print("In another terminal:\n", style="bold")
    for line in (
        f"export VIDGATE_URL={where.url}",
        f"export VIDGATE_KEY={state.key}",
        f"vidgate generate {picture} -o out.mp4",
        f'curl -H "x-api-key: $VIDGATE_KEY" -F image=@{picture} -F num_frames=25 $VIDGATE_URL/generate/video',
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print("\nCtrl-C stops it.", style="dim")
