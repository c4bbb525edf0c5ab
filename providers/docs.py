"""The reference page of all built-in routes, made from their capability tables: `python -m providers.docs` writes it.

Pure but for the last function; a test compares the page with the tables, so it is never stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from providers.capability import Capability, Route
from providers.contract import ProviderPlugin
from providers.registry import BUILTIN
from providers.vocabulary import BY_NAME, Scalar, parameters_for

PAGE = Path(__file__).parents[1] / "docs" / "providers.md"
MODES: Mapping[str, str] = {
    "sync": "one call that answers with the result",
    "async": "submitted, then asked about until it is done",
    "local": "made by the team's own machines",
}
BILLING: Mapping[str, str] = {
    "success_only": "only a delivered result is billed",
    "may_bill": "it may be billed although nothing came back",
    "free": "nothing is billed",
}
INTRODUCTION = """\
# Providers and their routes

Made from the capability tables by `python -m providers.docs`; do not edit. The same tables decide which routes may
serve a request, what each vendor is sent, what the receipt says, and the schema in `/openapi.json`.

*takes* is what a caller may write on this route in canonical terms; `a` → `b` is the vendor's own spelling. *unwritten*
is what goes when the caller wrote nothing: vendor defaults are never relied on. *by* says who does it: the vendor by
the field named, the model by itself, or vidgate (gateway). A parameter without a row cannot be honoured by the route.

*source* is where a fact was read: S0-S4 are the vendors' own pages of the five endpoints, WIRE the notes on what was
found beside them.
"""


def page(plugins: Iterable[ProviderPlugin]) -> str:
    """The whole page, in Markdown."""
    return "\n".join([INTRODUCTION, *(section(plugin) for plugin in plugins)])


def section(plugin: ProviderPlugin) -> str:
    """One provider: its settings, then its routes."""
    settings = ", ".join(f"`{name}`" for name in plugin.settings.model_fields)
    simulated = "It has a simulator (`vidgate sandbox`)." if plugin.simulator else "It needs no simulator."
    head = f"## {plugin.name}\n\nSettings: {settings}. {simulated}\n"
    return "\n".join([head, *(route_section(route) for route in plugin.catalogue)])


def route_section(route: Route) -> str:
    """One route: its facts and its table."""
    facts = [
        f"Makes: {route.media}, model `{route.model}`",
        f"Way: {MODES[route.mode]}" + ("; can be picked up by another process" if route.resumable else ""),
        f"Nominal time: {route.latency_nominal_s:g} s",
        f"Picture: `{route.image_name}`, as " + " or ".join(f"`{form}`" for form in route.image_forms),
        f"A submit whose reply was lost: {BILLING[route.ambiguous_billing]}",
    ]
    if route.size is not None:
        box = f"{route.size.width_max} x {route.size.height_max}"
        facts.append(f"Sizes: up to {box} pixels, in multiples of {route.size.multiple}")
    if route.record_ttl_s is not None:
        facts.append(f"The vendor answers for a finished job for {route.record_ttl_s:g} s")
    why_not: dict[str, list[str]] = {}
    for name, why in route.lacks.items():
        why_not.setdefault(why, []).append(f"`{name}`")
    facts += [f"Not {', '.join(names)}: {why}" for why, names in why_not.items()]
    if route.preview:
        facts.append("Taken only when it is asked for by name or configured")
    rows = {row.parameter: row for row in route.capabilities}
    table = [_table_row(rows[one.name]) for one in parameters_for(route.media) if one.name in rows]
    return "\n".join(
        [
            f"### {route.name}\n",
            f"{route.summary}\n",
            *(f"- {fact}" for fact in facts),
            "",
            "| parameter | vendor's name | takes | unwritten | by | notes | source |",
            "|---|---|---|---|---|---|---|",
            *table,
            "",
        ]
    )


def _table_row(row: Capability) -> str:
    notes = [text for text in (row.note, "changes the price" if row.affects_price else "") if text]
    name = f"`{row.wire}`" if row.wire is not None else "—"
    cells = [f"`{row.parameter}`", name, _takes(row), _unwritten(row), row.by, "; ".join(notes), row.source]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _takes(row: Capability) -> str:
    """The values that the row takes: its own narrowing, else the vocabulary's range."""
    parameter = BY_NAME[row.parameter]
    if row.allowed:
        values = ", ".join(_spelt(row, value) for value in row.allowed)
        return values if row.wire_type != "string" else f"{values} (as text)"
    if row.spelling or parameter.choices:
        return ", ".join(_spelt(row, value) for value in row.spelling or parameter.choices)
    low = row.minimum if row.minimum is not None else parameter.minimum
    high = row.maximum if row.maximum is not None else parameter.maximum
    if low is None or high is None:
        return "yes, no" if parameter.kind == "boolean" else "any text"
    return f"{_plain(low)} to {_plain(high)}"


def _spelt(row: Capability, value: Scalar) -> str:
    spelt = row.spelling.get(value, value)
    return f"`{value}`" if spelt == value else f"`{value}` → `{spelt}`"


def _unwritten(row: Capability) -> str:
    if row.required:
        return "**must be written**"
    default = row.default if row.default is not None else BY_NAME[row.parameter].default
    return "—" if default is None else f"`{default}`"


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(BUILTIN), encoding="utf-8")


if __name__ == "__main__":
    main()
