"""A provider that is timed and traced: the same verbs and abilities, each call counted by what it came to.

What a vendor says is cleaned here, before anybody keeps or shows it: some repeat keys and addresses in their words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from typing import Any

from gateway.clock import stopwatch_s
from gateway.telemetry.meter import Meter, failure_of, outcome_word
from gateway.telemetry.redaction import redacted
from gateway.telemetry.tracing import span
from providers.capability import Route
from providers.contract import (
    Failed,
    InDoubt,
    NoEvidence,
    NotFound,
    Provider,
    Refused,
    RenderRequest,
    SentAttempt,
)

CALLS = frozenset({"submit", "check", "lookup", "cancel", "balance", "upload"})


class MeteredProvider:
    """Stands in for a provider. An ability that the provider lacks is lacked here too: having one is the flag."""

    def __init__(self, provider: Provider, meter: Meter) -> None:
        self._provider = provider
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._provider, name)
        return self._timed(name, found) if name in CALLS else found

    def _timed(self, call: str, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(work)
        async def timed(*arguments: Any) -> Any:
            began_s, outcome, route = stopwatch_s(), None, _route_of(arguments)
            with span(f"{call} {route}", "client") as tracked:
                try:
                    outcome = _cleaned(await work(*arguments))
                finally:
                    took_s = stopwatch_s() - began_s
                    self._meter.called(self._provider.name, route, call, outcome, took_s)
                told = {"gen_ai.provider.name": self._provider.name, "vidgate.call": call}
                tracked.note(told | {"vidgate.outcome": outcome_word(outcome)})
                failure = failure_of(outcome)
                if failure is not None:
                    tracked.fail(failure)
            return outcome

        return timed


def _cleaned(outcome: Any) -> Any:
    """An outcome whose words hold no secret."""
    match outcome:
        case Refused() | Failed() | InDoubt() | NotFound() | NoEvidence():
            told = redacted(outcome.detail)
            return outcome if told == outcome.detail else replace(outcome, detail=told)
    return outcome


def _route_of(arguments: tuple[Any, ...]) -> str:
    """The route that a call is about; a balance is about none."""
    match arguments:
        case (Route() as route, *_):
            return route.name
        case (RenderRequest() as request,):
            return request.route.name
        case (SentAttempt() as sent,):
            return sent.route.name
    return "none"
