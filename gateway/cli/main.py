"""The command `vidgate`: every subcommand in one place, and how errors end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated

import typer

from gateway.cli.exit_codes import MEANINGS, CommandError, ExitCode
from gateway.cli.output import result_console, show_command_error, show_configuration_error
from gateway.config_errors import ConfigurationError

EXIT_CODES = "[bold]Exit codes[/]\n" + "\n".join(f"{code.value:>4}  {text}" for code, text in MEANINGS.items())

# Where each command lives: a function, or a group of commands. Only the one that is called is loaded, because the parts
# of a server take a second to import and a client needs none of them.
COMMANDS: Mapping[str, str] = {
    "demo": "gateway.cli.demo:demo",
    "dev": "gateway.cli.serve:dev",
    "serve": "gateway.cli.serve:serve",
    "sandbox": "gateway.cli.sandbox:app",
    "gpu-worker": "gateway.cli.gpu:gpu_worker",
    "gpu-serve": "gateway.cli.gpu:gpu_serve",
    "generate": "gateway.cli.generate:generate",
    "wait": "gateway.cli.generate:wait",
    "routes": "gateway.cli.generate:routes",
    "replay": "gateway.cli.replay:replay",
    "simulate": "gateway.cli.simulate:simulate",
    "keys": "gateway.cli.keys:app",
    "teams": "gateway.cli.teams:app",
    "budgets": "gateway.cli.budgets:app",
    "usage": "gateway.cli.money:usage",
    "statement": "gateway.cli.money:statement",
    "close": "gateway.cli.money:close",
    "reconcile": "gateway.cli.reconcile:reconcile",
    "prices": "gateway.cli.prices:app",
    "accounts": "gateway.cli.money:accounts",
    "book": "gateway.cli.book:app",
    "balance": "gateway.cli.book:balance",
    "doubts": "gateway.cli.doubts:app",
    "audit": "gateway.cli.audit:app",
    "webhooks": "gateway.cli.webhooks:app",
    "jobs": "gateway.cli.jobs:app",
    "database": "gateway.cli.migrations:app",
    "config": "gateway.cli.config:app",
}


def _version(wanted: bool) -> None:
    if wanted:
        result_console().print(f"vidgate {version('vidgate')}")
        raise typer.Exit


def root(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """One endpoint for generative video: the best route, exact money, nothing lost."""


def program(names: Iterable[str]) -> typer.Typer:
    """The command line with these of its commands."""
    app = typer.Typer(
        name="vidgate",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        rich_markup_mode="rich",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        part = getattr(import_module(module), attribute)
        if isinstance(part, typer.Typer):
            app.add_typer(part, name=name)
        else:
            app.command(name)(part)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and end the process with the code that `exit_codes` documents."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    called = next((word for word in given if not word.startswith("-")), "")
    try:
        program([called] if called in COMMANDS else COMMANDS)(given)
    except CommandError as error:
        show_command_error(error)
        sys.exit(error.code)
    except OSError as error:  # a folder that cannot be made, a disk that is full: the system's own words
        show_command_error(CommandError(ExitCode.USAGE, str(error)))
        sys.exit(ExitCode.USAGE)
    except ConfigurationError as error:
        show_configuration_error(error)
        sys.exit(ExitCode.USAGE)
