"""What can be known of a lost submit: the vendor's own records, an operator's word, and how long it is asked for.

The records are a vendor's history, wallet or balance, behind its adapter's `lookup`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from gateway.doubts import Ruling, doubt_of, ruling_of, sure_from
from gateway.jobs import AttemptState
from gateway.money.losses import InSuspense, in_suspense
from gateway.parts import Parts
from gateway.runs import Run
from gateway.store import jobs as rows
from gateway.store.jobs import Attempt
from providers.contract import Accepted, HasLookup, LookupOutcome, NoEvidence, NotFound, SentAttempt

RIVALS_WINDOW_S = 86_400.0


class Evidence:
    """Asks, and answers with what was found; what follows from it is the engine's to say."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def can_tell(self, attempt: Attempt) -> bool:
        """Whether the attempt's vendor has records that can be asked."""
        known = attempt.route in self._parts.fleet.routes
        return known and isinstance(self._parts.fleet.account(attempt.route).provider, HasLookup)

    async def ruling(self, attempt: Attempt) -> Ruling | None:
        """An operator's word on an attempt that is in doubt: a row, whichever process wrote it."""
        is_in_doubt = attempt.state is AttemptState.IN_DOUBT
        return await self._parts.store.read(ruling_of, attempt) if is_in_doubt else None

    def until(self, attempt: Attempt) -> float:
        """The deadline: the one that was published, where the attempt is in doubt."""
        doubt = doubt_of(attempt)
        usual = attempt.began_at + self._parts.settings.jobs.in_doubt_s
        return usual if doubt is None or doubt.until is None else doubt.until

    def left_s(self, attempt: Attempt) -> float:
        """Seconds to the deadline."""
        return self.until(attempt) - self._parts.clock.now()

    async def look(self, run: Run, attempt: Attempt) -> LookupOutcome:
        """Ask about the submit that is in doubt now."""
        return await self._ask(run, attempt, attempt.began_at, self._parts.clock.now())

    async def look_back(self, run: Run, attempt: Attempt) -> LookupOutcome:
        """Ask about every submit of an attempt that was given up, but for the one whose render is known."""
        assert attempt.finished_at is not None
        found = await self._ask(run, attempt, attempt.prepared_at, attempt.finished_at, attempt.vendor_request_id)
        if isinstance(found, Accepted) and found.token == attempt.token:
            return NoEvidence("the records show the later submit of the attempt, whose render is known")
        return found

    async def given_up(self, run: Run, before: int) -> Sequence[tuple[Attempt, InSuspense]]:
        """The submits of attempts before this number that were given up in doubt and can be looked up: each by itself.

        An attempt may have been repeated more than once, and rendered in the end: what was lost before is still open.
        """
        if not run.attempts:
            return ()
        now, in_doubt_s = self._parts.clock.now(), self._parts.settings.jobs.in_doubt_s
        suspended = await self._parts.store.read(_of_job, run.job.id)
        return [
            (attempt, one)
            for attempt in run.attempts
            if attempt.number < before or attempt.vendor_request_id is not None
            if now < attempt.prepared_at + in_doubt_s and self.can_tell(attempt)
            for one in suspended
            if one.attempt_id == attempt.id and attempt.finished_at is not None
            if attempt.token is None or one.submit < attempt.submits
        ]

    async def _ask(
        self, run: Run, attempt: Attempt, since: float, until: float, known: str | None = None
    ) -> LookupOutcome:
        """Ask for a submit; `known` is the vendor's id of a render that is not meant."""
        provider, route = self._parts.fleet.account(attempt.route).provider, self._parts.fleet.routes[attempt.route]
        assert isinstance(provider, HasLookup)
        rivals = await self._parts.store.read(rows.rivals, attempt, since - RIVALS_WINDOW_S)
        sent = SentAttempt(
            route,
            attempt.id,
            attempt.wire,
            sent_at=since,
            until=until,
            credits_before_micros=attempt.credits_before_micros,
            claimed=rivals.claimed if known is None else rivals.claimed | {known},
            is_unique=attempt.seed is not None and run.job.request["written"].get("seed", -1) == -1,
        )
        found = await provider.lookup(sent)
        if isinstance(found, Accepted) and rivals.twin:
            return NoEvidence("the records have a render of these inputs, which another lost attempt may have started")
        if isinstance(found, NotFound) and self._parts.clock.now() < sure_from(attempt):
            return NoEvidence(f"{found.detail}; the submit may still be under way")
        return found


def _of_job(connection: Connection, job_id: str) -> list[InSuspense]:
    return [one for one in in_suspense(connection, job_id=job_id) if not one.is_cost]
