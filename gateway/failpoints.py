"""Failpoints: named steps at which a test stops, spoils or kills this process.

The steps are every transaction of the running service and every call to the outside, each `before` and `after`. They
are reached through shells that the composition puts around the parts with `watched`, so that a new transaction or call
gets its failpoints by being made. In production nobody calls `watch` and each part is handed out as it is: there is
nothing left to pass by.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, cast

T = TypeVar("T")
P = ParamSpec("P")
Hook = Callable[[str], None]
Part = Literal["store", "vendor", "outbound", "artifacts"]

# Every transaction that the running service makes, by module and function. tests/crash/test_steps.py compares the list
# with the source, and wants a case for each line.
TRANSACTIONS = (
    "admission.admit",
    "events.price_drifted",
    "idempotency.prune",
    "jobs.claim_due",
    "jobs.extend_leases",
    "jobs.release_leases",
    "jobs.request_cancel",
    "jobs.update_job",
    "outbox.claim_due",
    "outbox.note_try",
    "overdue.end_overdue",
    "overdue.end_parked",
    "parking.note_crash",
    "parking.park",
    "settlement.clear_absent",
    "settlement.end_job",
    "settlement.fail_and_end",
    "settlement.fail_attempt",
    "settlement.note_attempt",
    "settlement.repeat_suspected",
    "settlement.start_attempt",
    "settlement.succeed",
    "settlement.take_up",
    "watch.note_balance",
    "webhooks.keep_usage_webhook",
)
# What administrators do over HTTP: one transaction each, with its line in the audit log, that no job waits for. Dead
# before it, nothing was done; after it, all of it.
ADMINISTRATION = (
    "administration.add_key",
    "administration.add_team",
    "administration.end_key",
    "administration.end_team",
    "people.admit_person",
)
CALLS: Mapping[Part, tuple[str, ...]] = {
    "vendor": ("balance", "cancel", "check", "lookup", "submit", "upload"),
    "outbound": ("fetch", "post"),
    "artifacts": ("get", "put"),
}
ACTIONS = (*TRANSACTIONS, *(f"{part}.{call}" for part, calls in CALLS.items() for call in calls))
STEPS = frozenset(f"{moment} {action}" for action in (*ACTIONS, *ADMINISTRATION) for moment in ("before", "after"))

_hook: Hook | None = None


class UnknownStepError(LookupError):
    """A step that the table does not name was reached."""


def watch(hook: Hook | None) -> None:
    """Tell a hook of every step of the parts that are composed from now on; None ends it."""
    global _hook  # noqa: PLW0603 - one process, one hook: the parts it watches are made once
    _hook = hook


def watched(part: T, kind: Part) -> T:
    """The part itself, or while somebody watches a shell around it that tells of every step."""
    if _hook is None:
        return part
    return cast("T", _WatchedStore(part) if kind == "store" else _Watched(part, kind))


def reach(step: str) -> None:
    """Tell the hook that a step is reached. Raises UnknownStepError for one that the table does not name."""
    if step not in STEPS:
        raise UnknownStepError(step)
    if _hook is not None:
        _hook(step)


def transaction_name(fn: Callable[..., object]) -> str:
    """The name of a transaction in the table: its function's, after its module's."""
    return f"{fn.__module__.rpartition('.')[2]}.{fn.__name__}"


class _Watched:
    """A part whose calls are steps; everything else of it, and which of the calls it has, is as it was."""

    def __init__(self, part: Any, kind: Part) -> None:
        self._part = part
        for call in CALLS[kind]:
            if hasattr(part, call):
                setattr(self, call, _stepped(getattr(part, call), f"{kind}.{call}"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)


def _stepped(call: Callable[P, Awaitable[T]], action: str) -> Callable[P, Awaitable[T]]:
    async def stepped(*args: P.args, **kwargs: P.kwargs) -> T:
        reach(f"before {action}")
        result = await call(*args, **kwargs)
        reach(f"after {action}")
        return result

    return stepped


class _WatchedStore:
    """A store whose transactions are steps."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def write(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        name = transaction_name(fn)
        reach(f"before {name}")
        result: T = await self._store.write(fn, *args, **kwargs)
        reach(f"after {name}")
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
