"""`vidgate config`: what a configuration file means, checked whole, and every setting there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from pydantic import BaseModel, SecretStr
from rich.text import Text

from gateway.cli.exit_codes import ExitCode
from gateway.cli.options import AsJson
from gateway.cli.output import print_json, result_console, show_configuration_error, table
from gateway.cli.reference import markdown, provider_markdown, renewed, rows_of
from gateway.cli.serve import CONFIG_VARIABLE, read_configuration, show_warnings
from gateway.cli.servers import installed
from gateway.config import Configuration
from gateway.config_errors import ConfigurationError, place
from gateway.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Check a configuration file, and list every setting.")

File = Annotated[
    Optional[Path],  # noqa: UP045 - read at run time
    typer.Argument(envvar=CONFIG_VARIABLE, help="The configuration file (YAML).", show_default=False),
]


@app.command("check")
def check(file: File = None, *, as_json: AsJson = False) -> None:
    """Check a configuration file whole and show what it sets; keys and secrets are not shown.

    It exits with 0 when the file can be served, with 2 when it cannot; warnings
    do not count.

    [bold]Examples[/]
        vidgate config check vidgate.yaml
        vidgate config check vidgate.yaml --json
    """
    try:
        configuration = read_configuration(file)
    except ConfigurationError as error:
        if as_json:
            faults = [{"path": place(one.path), "line": one.line, "detail": one.detail} for one in error.problems]
            print_json({"usable": False, "faults": faults, "warnings": []})
        else:
            show_configuration_error(error)
        raise typer.Exit(ExitCode.USAGE) from None
    if as_json:
        print_json(_as_json(configuration))
        return
    _show(configuration)
    show_warnings(configuration)


@app.command("reference")
def reference(
    *,
    into: Annotated[
        Optional[Path],  # noqa: UP045 - read at run time
        typer.Option(metavar="FILE", help="Renew this document instead of printing.", show_default=False),
    ] = None,
) -> None:
    """List every setting and every provider's own, with type, range, default and purpose, as Markdown.

    [bold]Examples[/]
        vidgate config reference
        vidgate config reference --into docs/configuration.md
    """
    text = markdown(rows_of(Settings)) + "\n" + provider_markdown(installed().values())
    if into is None:
        result_console().print(text, markup=False, soft_wrap=True, end="")
    else:
        into.write_text(renewed(into.read_text(encoding="utf-8"), text), encoding="utf-8")


def _show(configuration: Configuration) -> None:
    console = result_console()
    written = table("setting", "value", title="Settings that differ from their defaults")
    for path, value in _differing(configuration.settings):
        written.add_row(path, Text(value))
    console.print(written, "")
    accounts = table("provider", "setting", "value", title="Providers, without their defaults")
    for name, account in configuration.accounts.items():
        for position, (key, value) in enumerate([*_differing(account)] or [("", "")]):
            accounts.add_row(Text(name if position == 0 else "", style="bold"), key, Text(value))
    console.print(accounts, "")
    routes = table("route", "makes", "model", "", title="Routes")
    for route in configuration.routes:
        routes.add_row(route.name, route.media, route.model, route.summary)
    console.print(routes)


def _differing(section: BaseModel, path: str = "") -> Iterator[tuple[str, str]]:
    """The settings that were written and are not what they would be anyway; the providers are shown apart."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _differing(value, f"{path}{name}.")
        elif name != "providers" and value != field.get_default(call_default_factory=True):
            yield f"{path}{name}", _text(value)


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "(set, not shown)"
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "-"
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_json(configuration: Configuration) -> dict[str, Any]:
    return {
        "usable": True,
        "faults": [],
        "warnings": [{"path": place(one.path), "detail": one.detail} for one in configuration.warnings],
        "settings": configuration.settings.model_dump(mode="json", exclude={"providers"}),
        "providers": {name: account.model_dump(mode="json") for name, account in configuration.accounts.items()},
        "routes": [route.name for route in configuration.routes],
    }
