"""A job told on the terminal: its plan with reasons, receipt, attempts, bill and result. JSON in, rich out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text
from rich.tree import Tree

from gateway.cli.fitting import FittingTable
from gateway.cli.output import duration, size, state, table, usd

Json = Mapping[str, Any]
BORING_OUTCOMES = frozenset({"defaulted"})


def heading(title: str, about: str = "") -> RenderableType:
    """The title of a part, and a few words about it."""
    return Padding(Text.assemble((title, "bold cyan"), (f"  {about}", "dim")), (1, 0, 0, 0), expand=False)


def show_job(console: Console, job: Json) -> None:
    """Everything about a job, in the order in which it happened."""
    show_plan(console, job)
    show_receipt(console, job)
    show_attempts(console, job)
    show_bill(console, job)
    show_error(console, job)


def show_plan(console: Console, job: Json) -> None:
    """The ranked routes, best first, with their reasons, and the refused ones with theirs."""
    plan = job["plan"]
    console.print(heading("Plan", f"objective {plan['objective']}, decided at {plan['decided_at']}"))
    ranked = table(">", "route", ">price", "why")
    for place, quote in enumerate(plan["ranked"], start=1):
        style = "bold green" if place == 1 else ""
        ranked.add_row(
            str(place), Text(quote["route"], style=style), usd(quote["price_micros"]), "\n".join(quote["reasons"])
        )
    if plan["ranked"]:
        console.print(ranked)
    if plan["refused"]:
        console.print(Padding(_refused(plan["refused"]), (1 if plan["ranked"] else 0, 0, 0, 0), expand=False))


def _refused(refusals: Iterable[Json]) -> FittingTable:
    """The refused routes; those with the same reasons share a row."""
    routes: dict[tuple[str, ...], list[str]] = {}
    for one in refusals:
        routes.setdefault(tuple(one["reasons"]), []).append(one["route"])
    refused = table("refused", "because")
    for reasons, names in routes.items():
        refused.add_row(Text("\n".join(names)), "\n".join(f"· {reason}" for reason in reasons), style="dim")
    return refused


def show_receipt(console: Console, job: Json) -> None:
    """What became of every parameter on the way to the vendor."""
    if not job["receipt"]:
        return
    console.print(heading("Receipt", f"what {job['route']} was sent for each parameter"))
    lines = table("parameter", ">asked", "sent", "outcome")
    for line in job["receipt"]:
        outcome = state(line["outcome"])
        if line["reason"]:
            outcome.append(f"  {line['reason']}", style="not bold default")
        style = "dim" if line["outcome"] in BORING_OUTCOMES else ""
        lines.add_row(line["parameter"], _value(line["asked"]), _sent(line), outcome, style=style)
    console.print(lines)


def _sent(line: Json) -> str:
    """What travelled: the vendor's name and value, or neither where vidgate or the model sees to it."""
    return f"{line['vendor_name']} = {_value(line['sent'])}" if line["vendor_name"] else "-"


def show_attempts(console: Console, job: Json) -> None:
    """Every attempt with its events, so that retries and failovers can be seen."""
    console.print(heading("Attempts"))
    for attempt in job["attempts"]:
        console.print(Padding(_attempt(attempt), (0, 0, 0, 1), expand=False))
    if not job["attempts"]:
        console.print(Text("  none yet", style="dim"))


def _attempt(attempt: Json) -> Tree:
    submits = f"{attempt['submits']} submit{'s' * (attempt['submits'] != 1)}"
    facts = [submits]
    if attempt.get("cost_micros") is not None:
        facts.append(f"cost {usd(attempt['cost_micros'])} ({attempt['cost_source']})")
    if attempt["seed"] is not None:
        facts.append(f"seed {attempt['seed']}")
    title = Text.assemble(
        f"{attempt['number']}. ", (attempt["route"], "bold"), "  ", state(attempt["state"]), "  ", ", ".join(facts)
    )
    tree = Tree(title, guide_style="dim")
    began = _instant(attempt["prepared_at"])
    for event in attempt["events"]:
        after_s = (_instant(event["at"]) - began).total_seconds()
        style = "yellow" if event["what"] in {"retry", "in_doubt"} else ""
        words = event["what"].replace("_", " ")
        tree.add(Text.assemble((f"{after_s:6.1f} s  ", "dim"), (f"{words}  ", style or "bold"), event["detail"] or ""))
    if attempt["failure"]:
        tree.add(Text(f"failed: {attempt['failure']['kind']}: {attempt['failure']['detail']}", style="red"))
    return tree


def show_bill(console: Console, job: Json) -> None:
    """What was held and what was paid."""
    bill = job["bill"]
    lines = table("state", ">held", ">price", ">vendor's cost", ">margin", "cost known from")
    lines.add_row(
        state(bill["status"]),
        usd(bill["held_micros"]),
        usd(bill["price_micros"]),
        usd(bill.get("cost_micros")),
        usd(bill.get("margin_micros")),
        bill.get("cost_source") or "-",
    )
    console.print(heading("Bill"), lines)


def show_error(console: Console, job: Json) -> None:
    """Why there is no result, when there is none."""
    if job["error"]:
        console.print(Text.assemble(("no result: ", "bold red"), job["error"]["title"], ": ", job["error"]["detail"]))


def result_lines(job: Json, saved: Iterable[object]) -> RenderableType:
    """The delivered files: where they were saved, what they are, and what differs from the order."""
    lines: list[RenderableType] = []
    for file, path in zip(job["result"]["files"], saved, strict=False):
        lines.append(Text.assemble(("✓ ", "green"), (str(path), "bold")))
        lines.append(Text(f"  {file_facts(file)}"))
        lines += [Text(f"  differs from the order: {deviation}", style="yellow") for deviation in file["deviations"]]
    return Group(*lines)


def file_facts(file: Json) -> str:
    """A file in one line: size in pixels, frames, rate, length, bytes."""
    facts = [f"{file['width']} x {file['height']}"]
    if file.get("fps"):
        facts += [f"{file['num_frames']} frames", f"{file['fps']:g} fps", duration(file["duration_s"])]
    return ", ".join([*facts, file["media_type"], size(file["size_bytes"])])


def _value(value: object) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
