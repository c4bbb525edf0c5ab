"""Attempts in doubt: what is published of them, and the word of an operator who knows what became of one.

    doubt_of      since when, until when, what was looked at; from the attempt's story alone
    give_ruling   an operator's word on the doubt that is open now, once; the row is the whole message
    ruling_of     the word that holds for an attempt as it stands: the engine obeys it under the fence of its lease

A ruling holds for one doubt. An attempt that comes into doubt again (another submit, a token that the vendor does not
know) is a new one, and may be ruled on again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import Connection, literal_column, select

from gateway.jobs import ACTIVE, AttemptState
from gateway.store.conflict import insert_new
from gateway.store.jobs import Attempt, load_attempt
from gateway.store.schema import attempts, jobs, rulings

Verdict = Literal["accepted", "not_accepted", "charged", "lost"]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A doubt that is open. Times are unix seconds; `until` is the published deadline; `number` counts from 1."""

    number: int
    since: float
    until: float | None
    why: str
    looks: int = 0
    looked_at: float | None = None
    found: str | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
    """An operator's word: `accepted` with its token, `not_accepted`, `charged` without a result, or `lost`."""

    verdict: Verdict
    at: float
    who: str
    why: str
    token: dict[str, Any] | None = None
    charged_micros: int | None = None

    @property
    def told(self) -> str:
        """Who and why, as the books and the attempt's story say it."""
        return f"settled by {self.who}: {self.why}"


def doubt_of(attempt: Attempt) -> Doubt | None:
    """The doubt that an attempt is in; None for one that is in none."""
    if attempt.state is not AttemptState.IN_DOUBT:
        return None
    openings = [index for index, event in enumerate(attempt.events) if event["what"] == "in_doubt"]
    opened = attempt.events[openings[-1]]
    looked = [event for event in attempt.events[openings[-1] :] if event["what"] == "looked_up"]
    last = looked[-1] if looked else None
    return Doubt(
        number=len(openings),
        since=opened["at"],
        until=opened.get("until"),
        why=opened["detail"],
        looks=sum(event.get("times", 1) for event in looked),
        looked_at=None if last is None else last.get("last_at", last["at"]),
        found=None if last is None else last["detail"],
    )


def sure_from(attempt: Attempt) -> float:
    """From when on records that do not have the submit which was last in doubt prove that it was not accepted."""
    openings = [event for event in attempt.events if event["what"] == "in_doubt"]
    return float(openings[-1].get("sure_from", 0.0)) if openings else 0.0


def open_doubts(connection: Connection) -> list[Attempt]:
    """Every attempt in doubt whose job still runs, the oldest first."""
    query = select(attempts.c.id).join(jobs, jobs.c.id == attempts.c.job_id)
    # In an index's own words: with parameters in it SQLite walks all attempts there ever were.
    is_open = attempts.c.state.in_([literal_column(f"'{state}'") for state in ("prepared", "accepted", "in_doubt")])
    query = query.where(is_open, attempts.c.state == AttemptState.IN_DOUBT, jobs.c.status.in_(ACTIVE))
    names = connection.execute(query.order_by(attempts.c.prepared_at, attempts.c.id)).scalars().all()
    return [one for name in names if (one := load_attempt(connection, name)) is not None]


def give_ruling(connection: Connection, attempt: Attempt, ruling: Ruling) -> bool:
    """Write an operator's word on the open doubt of an attempt; False when there is one already."""
    doubt = doubt_of(attempt)
    assert doubt is not None
    row = {
        "attempt_id": attempt.id,
        "doubt": doubt.number,
        "verdict": ruling.verdict,
        "at": ruling.at,
        "who": ruling.who,
        "why": ruling.why,
        "token": None if ruling.token is None else json.dumps(ruling.token),
        "charged_micros": ruling.charged_micros,
    }
    return insert_new(connection, rulings, row)


def ruling_of(connection: Connection, attempt: Attempt) -> Ruling | None:
    """The word that holds for an attempt as it stands."""
    doubt = doubt_of(attempt)
    if doubt is None:
        return None
    where = rulings.c.attempt_id == attempt.id, rulings.c.doubt == doubt.number
    row = connection.execute(select(rulings).where(*where)).one_or_none()
    return None if row is None else _ruling(row)


def rulings_on(connection: Connection, attempt_id: str) -> list[Ruling]:
    """Every word that was given on an attempt, the first one first."""
    query = select(rulings).where(rulings.c.attempt_id == attempt_id).order_by(rulings.c.doubt)
    return [_ruling(row) for row in connection.execute(query)]


def ruled(connection: Connection, job_ids: Sequence[str]) -> set[str]:
    """Which of these jobs have an attempt in doubt that a word was given on."""
    query = select(attempts.c.id).join(rulings, rulings.c.attempt_id == attempts.c.id).distinct()
    query = query.where(attempts.c.job_id.in_(job_ids), attempts.c.state == AttemptState.IN_DOUBT)
    found = [load_attempt(connection, name) for name in connection.execute(query).scalars().all()]
    return {one.job_id for one in found if one is not None and ruling_of(connection, one) is not None}


def _ruling(row: Any) -> Ruling:
    token = None if row.token is None else json.loads(row.token)
    return Ruling(cast("Verdict", row.verdict), row.at, row.who, row.why, token, row.charged_micros)
