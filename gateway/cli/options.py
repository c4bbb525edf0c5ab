"""Groups of command-line options: a frozen dataclass, or the vocabulary of parameters, unfolded into single options.

A command that takes `gateway: Gateway` offers every field of `Gateway` as an option and is called with the whole
value. The vocabulary's options are made from its one table, so that the two cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, get_type_hints

import typer

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.client.connection import KEY_VARIABLE, URL_USUAL, URL_VARIABLE
from providers.vocabulary import Kind, Media, Parameter, parameters_for

# A command line writes the result to a file, whichever way the gateway hands it over.
NOT_OFFERED = frozenset({"output"})
VOCABULARY_PANEL = "Parameters of the result"
ROUTING_PANEL = "Routing"
GATEWAY_PANEL = "Gateway"
METAVARS: Mapping[Kind, str] = {
    "integer": "INTEGER",
    "number": "NUMBER",
    "text": "TEXT",
    "choice": "WORD",
    "boolean": "true|false",
}
Options = Sequence[inspect.Parameter]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for machines.")]


@dataclasses.dataclass(frozen=True)
class Gateway:
    """Which gateway to talk to."""

    url: Annotated[
        str, typer.Option(envvar=URL_VARIABLE, help="Address of the gateway.", rich_help_panel=GATEWAY_PANEL)
    ] = URL_USUAL
    key: Annotated[
        str, typer.Option(envvar=KEY_VARIABLE, help="API key.", rich_help_panel=GATEWAY_PANEL, show_default=False)
    ] = ""


@dataclasses.dataclass(frozen=True)
class Follow:
    """What to do with a job that was submitted. The time is in seconds."""

    output: Annotated[
        Optional[str],  # noqa: UP045 - read at run time
        typer.Option("--output", "-o", metavar="FILE", help="File to write the result to; else the job's id names it."),
    ] = None
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to wait; the job goes on.")
    ] = 900.0
    as_json: AsJson = False


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for besides the picture and the parameters."""

    pairs: Annotated[
        Optional[list[str]],  # noqa: UP045 - read at run time
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter by any of its names; repeatable."),
    ] = None
    tags: Annotated[
        Optional[list[str]],  # noqa: UP045 - read at run time
        typer.Option("--tag", metavar="NAME=VALUE", help="A tag for the reports; repeatable."),
    ] = None
    idempotency_key: Annotated[
        str, typer.Option(metavar="KEY", help="Sent again under the same key it is never a second job.")
    ] = ""
    fit: Annotated[
        Literal["exact", "nearest"],
        typer.Option(help="`nearest` lets a route move a value that it cannot take.", rich_help_panel=ROUTING_PANEL),
    ] = "exact"
    objective: Annotated[
        Optional[Literal["default", "cheapest", "fastest", "balanced"]],  # noqa: UP045 - read at run time
        typer.Option(help="What to optimise.", rich_help_panel=ROUTING_PANEL),
    ] = None
    max_cost_usd: Annotated[
        Optional[float],  # noqa: UP045 - read at run time
        typer.Option(metavar="USD", help="Never cost more than this.", rich_help_panel=ROUTING_PANEL),
    ] = None
    deadline_s: Annotated[
        Optional[float],  # noqa: UP045 - read at run time
        typer.Option(metavar="SECONDS", help="Time within which it is wanted.", rich_help_panel=ROUTING_PANEL),
    ] = None
    pin: Annotated[
        Optional[str],  # noqa: UP045 - read at run time
        typer.Option(metavar="ROUTE", help="The one route or provider to use.", rich_help_panel=ROUTING_PANEL),
    ] = None
    only: Annotated[
        Optional[list[str]],  # noqa: UP045 - read at run time
        typer.Option(metavar="ROUTE", help="Use only these; repeatable.", rich_help_panel=ROUTING_PANEL),
    ] = None
    ignore: Annotated[
        Optional[list[str]],  # noqa: UP045 - read at run time
        typer.Option(metavar="ROUTE", help="Use none of these; repeatable.", rich_help_panel=ROUTING_PANEL),
    ] = None

    def routing(self) -> dict[str, Any]:
        """The members of `routing` that were written."""
        names = ("objective", "max_cost_usd", "deadline_s", "pin", "only", "ignore")
        return {name: value for name in names if (value := getattr(self, name)) not in (None, [])}


def unfolded(**tables: Options) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Unfold a command's grouped parameters into options: those with a dataclass type, and those named in `tables`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        groups: dict[str, tuple[Callable[..., Any], Options]] = {}
        shown: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            if parameter.name in tables:
                groups[parameter.name] = (_written, tables[parameter.name])
            elif dataclasses.is_dataclass(parameter.annotation):
                group: Any = parameter.annotation
                groups[parameter.name] = (group, _fields(group))
            shown += groups[parameter.name][1] if parameter.name in groups else [parameter]

        @functools.wraps(command)
        def edge(**given: Any) -> Any:
            for name, (build, options) in groups.items():
                given[name] = build(**{option.name: given.pop(option.name) for option in options})
            return command(**given)

        edge.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined] # what typer reads
        edge.__annotations__ = {one.name: one.annotation for one in shown}
        return edge

    return decorate


def _fields(group: Any) -> Options:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(group)
    ]


def _written(**values: str | None) -> Mapping[str, str]:
    """Those of the options that were given."""
    return {name: value for name, value in values.items() if value is not None}


def vocabulary(media: Media) -> Options:
    """An option for every parameter, by each of its names; one for a name of several, whose value says which it means.

    Ranges are shown and left to the gateway, which knows what each route takes.
    """
    offered = [parameter for parameter in parameters_for(media) if parameter.name not in NOT_OFFERED]
    times = Counter(alias for parameter in offered for alias in parameter.aliases)
    shared = [alias for alias, count in times.items() if count > 1]
    options = [_option(one, [alias for alias in one.aliases if alias not in shared]) for one in offered]
    return [*options, *(_shared_option(alias, offered) for alias in shared)]


def _option(parameter: Parameter, aliases: Sequence[str]) -> inspect.Parameter:
    return _text_option(parameter.name, aliases, METAVARS[parameter.kind], _help(parameter))


def _shared_option(alias: str, offered: Sequence[Parameter]) -> inspect.Parameter:
    meant = [parameter for parameter in offered if alias in parameter.aliases]
    kinds = [METAVARS[parameter.kind] for parameter in meant]
    help_text = f"Short for {' or '.join(_flag(one.name) for one in meant)}, by what its value is."
    return _text_option(alias, (), "|".join(kinds), help_text)


def _text_option(name: str, aliases: Sequence[str], metavar: str, help_text: str) -> inspect.Parameter:
    option = typer.Option(
        *(_flag(one) for one in (name, *aliases)),
        help=help_text,
        metavar=metavar,
        rich_help_panel=VOCABULARY_PANEL,
        show_default=False,
    )
    annotation = Annotated[Optional[str], option]  # noqa: UP045 - read at run time
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _help(parameter: Parameter) -> str:
    parts = [parameter.summary]
    if parameter.choices:
        parts.append(f"One of {', '.join(parameter.choices)}.")
    if parameter.minimum is not None and parameter.maximum is not None:
        parts.append(f"From {parameter.minimum:.15g} to {parameter.maximum:.15g}.")
    if parameter.default is not None:
        parts.append(f"Default {parameter.default}.")
    return " ".join(parts)


def read_pairs(pairs: Sequence[str] | None, option: str) -> Mapping[str, str]:
    """`name=value` pairs of a repeatable option. Raises CommandError for one that is not, and for a name twice."""
    read: dict[str, str] = {}
    for pair in pairs or ():
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise CommandError(ExitCode.USAGE, f"{option} {pair!r} is not NAME=VALUE")
        if name in read:
            raise CommandError(ExitCode.USAGE, f"{option} {name} is given twice")
        read[name] = value
    return read
