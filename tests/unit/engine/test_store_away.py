"""A database that goes away while a job is driven: no outcome is lost, nothing is paid twice, no lease is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from gateway.store import jobs as rows
from gateway.store.database import CommitUnknownError, StoreUnavailableError
from providers.contract import Accepted, FailureKind, Pending, Refused, Report
from tests.support.fixtures import Start
from tests.support.gateway import Gateway
from tests.support.scripted import Scripted

pytestmark = pytest.mark.anyio

AWAY_S = 120.0
# The writes of a job's life that carry what only this process knows.
WRITES = ("start_attempt", "note_attempt", "succeed")
MOMENTS = ("before", "after")


def fails(gateway: Gateway, moment: str, write: str, error: Exception, times: int = 1) -> list[str]:
    """Have a write of this name fail so many times, before it is made or after its commit; the failures so far."""
    failed: list[str] = []

    async def hook(when: str, name: str) -> None:
        if (when, name) == (moment, write) and len(failed) < times:
            failed.append(name)
            raise error

    gateway.store.hook = hook
    return failed


@pytest.mark.parametrize("write", WRITES)
async def test_an_outcome_is_kept_until_the_database_is_back(start_on_both: Start, write: str) -> None:
    """However long the database is away, what a vendor said is written once it is back: one submit, one bill."""
    alpha = Scripted()
    gateway = await start_on_both(alpha)
    began_at = gateway.clock.now()
    failed = fails(gateway, "before", write, StoreUnavailableError("away"), times=int(AWAY_S))
    job = await gateway.made()
    assert gateway.clock.now() - began_at >= AWAY_S
    assert (len(failed), job["status"], len(job["attempts"])) == (AWAY_S, "succeeded", 1)
    assert len(alpha.accepted) == 1
    assert job["bill"]["price_micros"] == alpha.price_micros


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("write", WRITES)
async def test_a_commit_of_unknown_fate_is_settled_by_the_rows(start_on_both: Start, write: str, moment: str) -> None:
    """Made or not, the job goes on from what is there: it is rendered once, billed once and never in doubt."""
    alpha = Scripted()
    gateway = await start_on_both(alpha)
    failed = fails(gateway, moment, write, CommitUnknownError("lost"))
    job = await gateway.made()
    assert (len(failed), job["status"], len(job["attempts"])) == (1, "succeeded", 1)
    assert len(alpha.accepted) == 1
    assert (await gateway.counts())["settlements"] == 1
    assert (await gateway.balances()).get("suspense", 0) == 0
    assert all(event["what"] != "in_doubt" for event in job["attempts"][0]["events"])


async def test_what_a_vendor_writes_is_stored_whatever_it_is(start_on_both: Start) -> None:
    """A NUL, half a character, a name without end: no outcome is lost because a database does not take a text."""
    alpha = Scripted()
    alpha.submits.append(Refused(FailureKind.SERVER_ERROR, "broken \0 \ud800 " + "x" * 5_000))
    alpha.submits.append(Accepted({"id": "\0"}, report=Report(request_id="r\0\ud800" + "y" * 5_000)))
    beta = Scripted("beta", price_micros=150_000)
    gateway = await start_on_both(alpha, beta)
    job = await gateway.made()
    assert job["status"] == "succeeded"
    assert any("broken" in event["detail"] for one in job["attempts"] for event in one["events"])


async def test_an_admission_without_a_database_is_503_and_leaves_nothing(start_on_both: Start) -> None:
    """The caller is told when to come back, in the one language of errors, and is charged for nothing."""
    gateway = await start_on_both(Scripted())
    fails(gateway, "before", "admit", StoreUnavailableError("away"))
    response = await gateway.post()
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")
    assert int(response.headers["retry-after"]) > 0
    assert response.json()["type"].endswith("/unavailable")
    assert "nothing was written" in response.json()["detail"]
    counts = await gateway.counts()
    assert (counts["jobs"], counts["holds"]) == (0, 0)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_admission_of_unknown_fate_is_told_and_a_repeat_finds_it(start_on_both: Start, moment: str) -> None:
    """Nobody can tell whether the job was admitted: the same key answers, and there is one job either way."""
    gateway = await start_on_both(Scripted())
    fails(gateway, moment, "admit", CommitUnknownError("lost"))
    key = {"idempotency-key": "once"}
    told = await gateway.post(headers=key)
    assert told.status_code == 503
    assert "Idempotency-Key" in told.json()["detail"]
    again = await gateway.post(headers=key)
    assert again.status_code == 202
    job = await gateway.ended(again.json()["id"])
    assert job["status"] == "succeeded"
    counts = await gateway.counts()
    assert (counts["jobs"], counts["holds"], counts["attempts"]) == (1, 1, 1)


async def test_a_job_whose_rows_cannot_be_read_is_handed_back(start_on_both: Start) -> None:
    """A read that fails in the middle costs the job a turn, and is no crash of its driver."""
    alpha = Scripted()
    alpha.checks.append(Pending())
    gateway = await start_on_both(alpha)
    store = gateway.service.parts.store
    read: Callable[..., Awaitable[object]] = store.read
    failed: list[str] = []

    async def breaks(fn: Callable[..., object], *args: object, **kwargs: object) -> object:
        if fn.__name__ == "load_rows" and not failed:
            failed.append(fn.__name__)
            raise StoreUnavailableError("away")
        return await read(fn, *args, **kwargs)

    store.read = breaks
    job = await gateway.made()
    store.read = read
    assert (failed, job["status"], len(job["attempts"])) == (["load_rows"], "succeeded", 1)
    assert len(alpha.accepted) == 1


async def test_a_store_that_was_away_lets_its_owners_renew_first(start: Start) -> None:
    """After an outage longer than a lease nobody's jobs are taken over before their owners could renew."""
    gateway = await start(Scripted(), jobs={"lease_s": 15, "heartbeat_s": 4}, claim_interval_s=1.0)
    claims: list[float] = []
    back_at = gateway.clock.now() + 21

    store = gateway.service.parts.store
    write: Callable[..., Awaitable[object]] = store.write

    async def slow(fn: Callable[..., object], *args: object, **kwargs: object) -> object:
        if fn is rows.claim_due:
            await gateway.clock.sleep(back_at - gateway.clock.now())
            claims.append(gateway.clock.now())
        return await write(fn, *args, **kwargs)

    store.write = slow
    await gateway.clock.sleep(40)
    store.write = write
    assert claims[0] >= back_at
    assert claims[1] - claims[0] >= 4
    assert claims[2] - claims[1] < 2


async def test_a_drain_without_a_database_ends(start: Start) -> None:
    """The leases run out by themselves: a process that is told to stop stops."""
    gateway = await start(Scripted())
    fails(gateway, "before", "release_leases", StoreUnavailableError("away"), times=99)
    await gateway.service.dispatcher.drain(1.0)
    gateway.store.hook = None
