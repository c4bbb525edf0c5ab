"""The command `vidgate`: every subcommand in one place, and how errors end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from gateway.cli import config, demo, generate, keys, sandbox, serve
from gateway.cli.exit_codes import MEANINGS, CommandError, ExitCode
from gateway.cli.output import result_console, show_command_error, show_configuration_error
from gateway.config_errors import ConfigurationError

EXIT_CODES = "[bold]Exit codes[/]\n" + "\n".join(f"{code.value:>4}  {text}" for code, text in MEANINGS.items())

app = typer.Typer(
    name="vidgate",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("dev")(serve.dev)
app.command("serve")(serve.serve)
app.add_typer(sandbox.app, name="sandbox")
app.command("generate")(generate.generate)
app.command("wait")(generate.wait)
app.command("routes")(generate.routes)
app.add_typer(keys.app, name="keys")
app.add_typer(config.app, name="config")


def _version(wanted: bool) -> None:
    if wanted:
        result_console().print(f"vidgate {version('vidgate')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """One endpoint for generative video: the best route, exact money, nothing lost."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and end the process with the code that `exit_codes` documents."""
    try:
        app(None if arguments is None else list(arguments))
    except CommandError as error:
        show_command_error(error)
        sys.exit(error.code)
    except ConfigurationError as error:
        show_configuration_error(error)
        sys.exit(ExitCode.USAGE)
