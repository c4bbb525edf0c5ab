"""`vidgate gpu-worker` and `vidgate gpu-serve`: rendering on the team's own cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from random import Random, SystemRandom
from typing import Annotated, Any, Optional

import typer

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.logs import log_to
from gateway.cli.options import AsJson, unfolded
from gateway.cli.output import note_console, print_json
from gateway.cli.servers import run
from gateway.clock import SystemClock
from providers.registry import PROGRAMS

TOKEN_VARIABLE = "VIDGATE_GPU_TOKEN"  # noqa: S105 - the name of a variable
MODEL_PANEL, SPEED_PANEL, SERVER_PANEL, RAY_PANEL = "Model", "Speed", "Server", "Replicas"


@dataclass(frozen=True)
class ModelOptions:
    """Which model is loaded, and how it computes."""

    model: Annotated[
        str,
        typer.Option(
            metavar="PATH_OR_ID",
            help="A diffusers folder, a name on the hub, or tiny:svd for a toy with random weights.",
            rich_help_panel=MODEL_PANEL,
            show_default=False,
        ),
    ]
    name: Annotated[
        Optional[str],  # noqa: UP045 - read at run time
        typer.Option(help="Serve it as svd, svd-xt or ssd-1b; by default, as what it is.", rich_help_panel=MODEL_PANEL),
    ] = None
    variant: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Which weight files, such as fp16; found by itself in a folder.", rich_help_panel=MODEL_PANEL
        ),
    ] = None
    revision: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Which revision on the hub; name one in production.", rich_help_panel=MODEL_PANEL),
    ] = None
    offline: Annotated[
        bool, typer.Option("--offline", help="Never ask the hub: only what is on disk.", rich_help_panel=MODEL_PANEL)
    ] = False
    device: Annotated[
        str, typer.Option(help="cuda, cuda:1, mps or cpu; auto takes the best.", rich_help_panel=MODEL_PANEL)
    ] = "auto"
    dtype: Annotated[str, typer.Option(help="auto, float16, bfloat16 or float32.", rich_help_panel=MODEL_PANEL)] = (
        "auto"
    )
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of a CPU that computes; 0 leaves it be.", rich_help_panel=MODEL_PANEL)
    ] = 0
    warm_up: Annotated[
        bool, typer.Option(help="Render something before the first order.", rich_help_panel=MODEL_PANEL)
    ] = True
    compile: Annotated[str, typer.Option(help="auto, off, inductor or aot_eager.", rich_help_panel=SPEED_PANEL)] = (
        "auto"
    )
    attention: Annotated[
        str,
        typer.Option(help="auto measures; default, cudnn, flash, efficient or math.", rich_help_panel=SPEED_PANEL),
    ] = "auto"
    channels_last: Annotated[
        str, typer.Option(help="Layout of the convolutions: auto, on or off.", rich_help_panel=SPEED_PANEL)
    ] = "auto"
    constant_cross_attention: Annotated[
        bool, typer.Option(help="Compute SVD's cross-attentions once a render.", rich_help_panel=SPEED_PANEL)
    ] = True
    overlap_decoding: Annotated[
        bool, typer.Option(help="Encode frames while the next are decoded.", rich_help_panel=SPEED_PANEL)
    ] = True
    guidance: Annotated[
        str, typer.Option(help="Both passes batched, or split to save memory.", rich_help_panel=SPEED_PANEL)
    ] = "batched"


@dataclass(frozen=True)
class ServerOptions:
    """Where it listens, how much it takes on, how long it waits. Times are seconds."""

    host: Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=SERVER_PANEL)] = "127.0.0.1"
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.", rich_help_panel=SERVER_PANEL)
    ] = 8000
    token: Annotated[
        str,
        typer.Option(
            envvar=TOKEN_VARIABLE,
            help="What callers must show as Authorization: Bearer; none when empty.",
            rich_help_panel=SERVER_PANEL,
            show_default=False,
        ),
    ] = ""
    work_dir: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where orders and results lie.", rich_help_panel=SERVER_PANEL)
    ] = Path("var/gpu-worker")
    queue_max: Annotated[
        int, typer.Option(min=0, help="Orders that wait; more are answered 429.", rich_help_panel=SERVER_PANEL)
    ] = 8
    keep_s: Annotated[float, typer.Option(min=1, help="How long results are kept.", rich_help_panel=SERVER_PANEL)] = (
        3600.0
    )
    wedged_s: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="A render without a step for so long hangs: its process is replaced.",
            rich_help_panel=SERVER_PANEL,
        ),
    ] = 300.0
    compile_wedged_s: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="The same while the network is compiled for a shape of clip that it has not seen.",
            rich_help_panel=SERVER_PANEL,
        ),
    ] = 900.0
    start_s: Annotated[
        float, typer.Option(min=1, help="How long loading and warming up may take.", rich_help_panel=SERVER_PANEL)
    ] = 1800.0
    drain_s: Annotated[
        float,
        typer.Option(min=0, help="On SIGTERM, how long the running render may go on.", rich_help_panel=SERVER_PANEL),
    ] = 120.0


@dataclass(frozen=True)
class RayOptions:
    """How many replicas there are, and what each is given."""

    address: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address of a Ray cluster; without one, a cluster is started on this machine.",
            rich_help_panel=RAY_PANEL,
        ),
    ] = ""
    replicas_min: Annotated[int, typer.Option(min=1, help="Replicas at rest.", rich_help_panel=RAY_PANEL)] = 1
    replicas_max: Annotated[int, typer.Option(min=1, help="Replicas at most.", rich_help_panel=RAY_PANEL)] = 1
    gpus_each: Annotated[
        float, typer.Option(min=0, help="Cards of a replica; 0 renders on the CPU.", rich_help_panel=RAY_PANEL)
    ] = 1.0
    cpus_each: Annotated[float, typer.Option(min=0.01, help="Cores of a replica.", rich_help_panel=RAY_PANEL)] = 1.0
    queue_each: Annotated[
        float, typer.Option(min=0.1, help="Orders a replica before Ray adds another.", rich_help_panel=RAY_PANEL)
    ] = 1.0
    upscale_s: Annotated[
        float, typer.Option(min=0, help="For how long they must be more before it does.", rich_help_panel=RAY_PANEL)
    ] = 30.0
    downscale_s: Annotated[
        float, typer.Option(min=0, help="And fewer before it takes one away.", rich_help_panel=RAY_PANEL)
    ] = 600.0


@unfolded()
def gpu_worker(*, model: ModelOptions, server: ServerOptions, as_json: AsJson = False) -> None:
    """Render on one card: a server around Stable Video Diffusion or SSD-1B.

    The gateway's provider [bold]local[/] sends it work; docs/local-gpu.md has the protocol. The
    model runs in a process of its own, which is replaced when it hangs or dies; orders
    that were accepted survive that, and a restart of this command too.

    Needs the extra: pip install 'vidgate\\[local-gpu]'

    [bold]Examples[/]
        vidgate gpu-worker --model tiny:svd                 a toy on any CPU: noise, but real files
        vidgate gpu-worker --model /models/svd-xt --host 0.0.0.0
        vidgate gpu-worker --model /models/ssd-1b --port 8001 --device cuda:1 --work-dir var/second
    """
    _serve("gpu-worker", {**asdict(model), **asdict(server)}, as_json)


@unfolded()
def gpu_serve(*, model: ModelOptions, server: ServerOptions, replicas: RayOptions, as_json: AsJson = False) -> None:
    """Render on many cards of many machines: replicas on Ray Serve behind one address.

    It speaks the same protocol as [bold]gpu-worker[/]. Ray places the replicas, hands them the orders
    and adds replicas while orders wait; a render whose replica dies is begun again under its id.

    Needs two extras: pip install 'vidgate\\[local-gpu,ray]'

    [bold]Examples[/]
        vidgate gpu-serve --model tiny:svd --gpus-each 0 --replicas-min 2 --replicas-max 2
        vidgate gpu-serve --model /models/svd-xt --address auto --replicas-max 16
    """
    _serve("gpu-serve", {**asdict(model), **asdict(server), **asdict(replicas)}, as_json)


def _serve(name: str, options: Mapping[str, Any], as_json: bool) -> None:
    """Run one of the providers' programs; what it is made of is loaded only now."""
    log_to()
    program = import_module(PROGRAMS[name])

    def tell(state: str, url: str) -> None:
        if as_json:
            print_json({"state": state, "url": url})
        else:
            note_console().print(f"vidgate {name} is {state} at [bold]{url}[/]")

    surroundings = program.Surroundings(
        clock=SystemClock(),
        random=Random(SystemRandom().getrandbits(64)),
        on_listening=lambda url: tell("loading its model", url),
        on_ready=lambda url: tell("ready", url),
    )
    serve = program.PROGRAMS[name]
    try:
        run(serve(options, surroundings))
    except program.UsageError as error:
        raise CommandError(ExitCode.USAGE, str(error), f"vidgate {name} --help") from error
    except (program.MissingExtraError, program.StartError) as error:
        raise CommandError(ExitCode.USAGE, str(error)) from error
