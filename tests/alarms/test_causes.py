"""Each alarm is caused for real, in virtual time: a gateway with faulty vendors is scraped, and the rules judge it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import GenericError
from sqlalchemy import Connection, insert

import gateway.dispatcher
from gateway import webhooks
from gateway.store.database import StoreUnavailableError
from gateway.store.schema_money import entries
from gateway.telemetry.figures import read_ledger
from gateway.watch import DRIFT_OBSERVATIONS_MIN
from gateway.webhooks import NewWebhook
from providers.contract import CheckOutcome, FailureKind, InDoubt, Pending, Refused, Token
from tests.alarms.seen import causes, every_minute, minutes, watching
from tests.support.bucket import Bucket
from tests.support.fixtures import Start
from tests.support.scripted import Lost, Scripted, delivers

pytestmark = pytest.mark.anyio
HOUR_MIN = 60
# Jobs begin where they are admitted: the loop for what was left behind need not turn every second of these hours.
SELDOM_S = 60.0


@causes("VidgateRouteDown", "VidgateJobsFailing")
async def test_a_vendor_is_down(start: Start, tmp_path: Path) -> None:
    """Every submit is answered by a 500 from the fifth minute on; both alarms end when it is well again."""
    alpha = Scripted()
    gateway = await start(alpha, claim_interval_s=SELDOM_S)
    async with watching(gateway) as seen:
        await every_minute(gateway, 5, gateway.made)
        alpha.submits.extend([Refused(FailureKind.SERVER_ERROR, "500")] * 10_000)
        down = seen.minute
        await every_minute(gateway, 22, lambda: gateway.submit(routing={"deadline_s": 20}))
        up = seen.minute
        alpha.submits.clear()
        await every_minute(gateway, 20, gateway.made)
    seen.judge(tmp_path, "VidgateRouteDown", quiet_until=down + 5, fires_at=down + 15, over_at=up + 5)
    seen.judge(tmp_path, "VidgateJobsFailing", quiet_until=down + 10, fires_at=up, over_at=up + 19)


@causes("VidgateDoubtAgeing")
async def test_a_lost_submit_is_never_cleared(start: Start, tmp_path: Path) -> None:
    """Nobody knows what became of it: an hour and five minutes later somebody is told, and not after it is over."""
    alpha = Scripted(submits=[Lost(accepted=True)])
    gateway = await start(alpha, retry={"ambiguous": "never"}, jobs={"in_doubt_s": 7_200}, claim_interval_s=SELDOM_S)
    async with watching(gateway, every_min=2) as seen:
        await gateway.submit()
        await minutes(gateway, 130)
    seen.judge(tmp_path, "VidgateDoubtAgeing", quiet_until=64, fires_at=67, over_at=125)


@causes("VidgateBudgetNearlySpent")
async def test_a_team_spends_its_budget(start: Start, tmp_path: Path) -> None:
    """Ten dimes, one spent every ten minutes: the alarm comes with the last but none, five minutes late."""
    gateway = await start(Scripted(), claim_interval_s=SELDOM_S)
    await gateway.set_budget(1_050_000)
    async with watching(gateway) as seen:
        for _ in range(9):
            await gateway.made()
        await minutes(gateway, 20)
        spent = seen.minute
        await gateway.made()
        await minutes(gateway, 12)
    seen.judge(tmp_path, "VidgateBudgetNearlySpent", quiet_until=spent + 4, fires_at=spent + 8)


def booked_by_hand(connection: Connection, team: str, at: float) -> None:
    """A row that no settlement explains: somebody bills a team with a client of the database."""
    connection.execute(
        insert(entries).values(
            reference="by hand",
            kind="capture",
            debit=f"team:{team}",
            credit="provider:alpha",
            amount_micros=5,
            at=at,
            period=datetime.fromtimestamp(at, UTC).strftime("%Y-%m"),
            reason="by hand",
        )
    )


@causes("VidgateLedgerImbalance")
async def test_somebody_writes_into_the_ledger(start: Start, tmp_path: Path) -> None:
    """One row of five millionths of a dollar is seen at the next scrape."""
    gateway = await start(Scripted(), claim_interval_s=SELDOM_S)
    async with watching(gateway) as seen:
        await gateway.made()
        await minutes(gateway, 5)
        sound = seen.minute
        await gateway.write(booked_by_hand, gateway.team_id, gateway.clock.now())
        await minutes(gateway, 3)
    assert seen.scrapes[-1]["vidgate_ledger_imbalance_micro_usd"] == "10.0", "the team's side and the provider's"
    seen.judge(tmp_path, "VidgateLedgerImbalance", quiet_until=sound, fires_at=sound + 2)


@causes("VidgateFiguresStale")
async def test_the_ledger_is_not_read_to_its_end(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan is cut off after forty minutes: its figure is not told until it was read, never as 0; its age is."""
    gateway = await start(Scripted(), claim_interval_s=SELDOM_S)
    read, began = gateway.store.read, []

    async def slow(fn: Any, *args: Any) -> Any:
        if fn is read_ledger:
            began.append(gateway.clock.now())
            await gateway.clock.sleep(40 * 60)
            raise StoreUnavailableError("it took too long")
        return await read(fn, *args)

    monkeypatch.setattr(gateway.store, "read", slow)
    await gateway.write(booked_by_hand, gateway.team_id, gateway.clock.now())
    async with watching(gateway) as seen:
        await minutes(gateway, 35)
        assert len(began) == 1, "one look at a time"
        monkeypatch.undo()
        await minutes(gateway, 10)
    imbalances = [scrape.get("vidgate_ledger_imbalance_micro_usd") for scrape in seen.scrapes]
    assert set(imbalances[:39]) == {None}
    assert imbalances[-1] == "10.0"
    ages_s = [float(scrape['vidgate_store_figures_age_seconds{kind="indexed"}']) for scrape in seen.scrapes]
    assert max(ages_s) <= 2, "what an index tells is not held up"
    seen.judge(tmp_path, "VidgateFiguresStale", quiet_until=15, fires_at=17, over_at=45)


@causes("VidgateSuspenseOpen")
async def test_a_possible_duplicate_is_never_reconciled(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submit is repeated without evidence; a day later the money still stands in suspense."""
    monkeypatch.setattr(gateway.dispatcher, "HEARD_INTERVAL_S", 3_600.0)  # a day of turns that find nothing
    alpha = Scripted(submits=[Lost(accepted=True)], billing="may_bill")
    doubtful = await start(alpha, retry={"ambiguous": "retry"}, claim_interval_s=600.0)
    async with watching(doubtful, every_min=4) as seen:
        await doubtful.made()
        await minutes(doubtful, 25 * HOUR_MIN)
    assert len(alpha.asked) == 2
    seen.judge(tmp_path, "VidgateSuspenseOpen", quiet_until=24 * HOUR_MIN - 1, fires_at=24 * HOUR_MIN + 8)


@causes("VidgateOutboxStuck")
async def test_a_receiver_is_dead_and_a_pile_waits_for_it(start: Start, tmp_path: Path) -> None:
    """Nothing listens at its address: it is left alone for longer and longer, and events wait that are due."""
    gateway = await start(Scripted(), outbound={"allow_hosts": ["127.0.0.1:1"]}, claim_interval_s=SELDOM_S)
    hook = NewWebhook("hook_1", gateway.team_id, "http://127.0.0.1:1/hook", gateway.clock.now())
    async with watching(gateway) as seen:
        await gateway.made()
        await gateway.write(webhooks.add_webhook, hook)
        began = seen.minute
        for _ in range(25):
            await gateway.submit()
        await minutes(gateway, 30)
        disabled = seen.minute
        await gateway.write(webhooks.disable_webhook, "hook_1", gateway.clock.now(), "it is gone")
        await minutes(gateway, 3)
    seen.judge(tmp_path, "VidgateOutboxStuck", quiet_until=began + 19, fires_at=began + 25, over_at=disabled + 2)


@causes("VidgateJobsUnowned")
async def test_more_jobs_are_taken_in_than_the_process_drives(start: Start, tmp_path: Path) -> None:
    """One at a time, and it takes half an hour: the second job is due and nobody drives it."""
    alpha = Scripted(trouble=Pending(), trouble_s=1_800.0)
    gateway = await start(alpha, jobs={"running_max": 1, "lease_s": 600, "heartbeat_s": 200, "deadline_s": 3_600})
    async with watching(gateway) as seen:
        first = await gateway.submit()
        await minutes(gateway, 5)
        alone = seen.minute
        await gateway.submit()
        await gateway.ended(first)
        await minutes(gateway, 5)
    seen.judge(tmp_path, "VidgateJobsUnowned", quiet_until=alone + 2, fires_at=alone + 5, over_at=seen.minute)


@causes("VidgateJobsParked")
async def test_a_job_breaks_whoever_drives_it(start: Start, tmp_path: Path) -> None:
    """Every look at its render is a fault of ours: after the last crash allowed it waits for an operator."""

    async def broken(moment: str, call: str) -> None:
        if (moment, call) == ("before", "check"):
            raise ZeroDivisionError("a fault of the gateway's own")

    alpha = Scripted(hook=broken)
    gateway = await start(alpha, jobs={"crashes_max": 5, "lease_s": 600, "heartbeat_s": 200})
    async with watching(gateway) as seen:
        await gateway.submit()
        await minutes(gateway, 15)
    seen.judge(tmp_path, "VidgateJobsParked", quiet_until=3, fires_at=10)


class Slow(Scripted):
    """A vendor whose renders take so long."""

    render_s = 0.0

    def _check(self, token: Token) -> CheckOutcome:
        began_at = self.asked_at[int(str(token["id"]).rpartition("-")[2]) - 1]
        return Pending() if self.now() < began_at + self.render_s else super()._check(token)


@causes("VidgateLatencyObjectiveBurning", "VidgateLatencyObjectiveSlowBurn")
async def test_videos_come_late(start: Start, tmp_path: Path) -> None:
    """Twenty quick renders, then each takes four minutes: a third late is slow burning, three quarters is burning."""
    alpha = Slow()
    gateway = await start(alpha, claim_interval_s=SELDOM_S)
    async with watching(gateway) as seen:
        await every_minute(gateway, 20, gateway.submit)
        quick = seen.minute
        alpha.render_s = 240.0
        await every_minute(gateway, 55, gateway.submit)
    seen.judge(tmp_path, "VidgateLatencyObjectiveSlowBurn", quiet_until=quick + 20, fires_at=quick + 40)
    seen.judge(tmp_path, "VidgateLatencyObjectiveBurning", quiet_until=quick + 40, fires_at=seen.minute)


@causes("VidgateRetryBudgetExhausted")
async def test_the_share_of_extra_calls_is_used_up(start: Start, tmp_path: Path) -> None:
    """A vendor refuses connections for half an hour, and there is nothing to repeat with."""
    alpha, beta = Scripted(), Scripted("beta", price_micros=150_000)
    retry = {"budget_ratio": 0.0, "budget_reserve_per_s": 0}
    tuning = {"tuning": {"breaker_failures": 10_000}}
    gateway = await start(alpha, beta, retry=retry, routing=tuning, claim_interval_s=SELDOM_S)
    made = lambda: gateway.made(routing={"order": ["alpha/one"]})  # noqa: E731
    async with watching(gateway) as seen:
        await every_minute(gateway, 10, made)
        fine = seen.minute
        alpha.submits.extend([Refused(FailureKind.UNAVAILABLE, "connect refused")] * 10_000)
        await every_minute(gateway, 20, made)
        over = seen.minute
        alpha.submits.clear()
        await minutes(gateway, 15)
    seen.judge(tmp_path, "VidgateRetryBudgetExhausted", quiet_until=fine + 10, fires_at=fine + 16, over_at=over + 14)


@causes("VidgatePriceDrift")
async def test_a_vendor_charges_more_than_the_book_says(start: Start, tmp_path: Path) -> None:
    """A fifth more on each of the last renders; four of them say nothing yet, five do, an hour later."""
    alpha = Scripted()
    gateway = await start(alpha, claim_interval_s=SELDOM_S)
    async with watching(gateway, every_min=4) as seen:
        for number in range(DRIFT_OBSERVATIONS_MIN):
            if number == DRIFT_OBSERVATIONS_MIN - 1:
                await minutes(gateway, 70)
            alpha.checks.append(delivers(cost_micros=alpha.price_micros * 6 // 5))
            await gateway.made()
        enough = seen.minute
        await minutes(gateway, 130)
    seen.judge(tmp_path, "VidgatePriceDrift", quiet_until=enough + 59, fires_at=enough + 126)


@causes("VidgateUnrecognisedReplies")
async def test_a_vendor_has_changed_its_words(start: Start, tmp_path: Path) -> None:
    """Six replies within an hour that match nothing documented; five were not enough."""
    alpha = Scripted()
    gateway = await start(alpha, claim_interval_s=SELDOM_S)
    strange = InDoubt("a new word", status=299, unrecognised=True)
    async with watching(gateway) as seen:
        await gateway.made()
        for _ in range(5):
            alpha.checks.append(strange)
            await gateway.made()
        await minutes(gateway, 10)
        few = seen.minute
        alpha.checks.append(strange)
        await gateway.made()
        await minutes(gateway, 65)
    seen.judge(tmp_path, "VidgateUnrecognisedReplies", quiet_until=few, fires_at=few + 4, over_at=seen.minute)


@causes("VidgateLoadShed")
async def test_a_replica_has_too_much_to_do(start: Start, tmp_path: Path) -> None:
    """Its loop is late again and again while callers come: told after five minutes, and over when it has caught up."""
    gateway = await start(Scripted(), claim_interval_s=SELDOM_S)

    async def callers() -> None:
        for _ in range(10):
            await gateway.post("/generate/video/quote")

    async with watching(gateway) as seen:
        await every_minute(gateway, 3, callers)
        for _ in range(2):
            gateway.service.overload.lagged(5.0)
        late = seen.minute
        await every_minute(gateway, 12, callers)
        gateway.service.overload.lagged(0.0)
        well = seen.minute
        await minutes(gateway, 8)
    seen.judge(tmp_path, "VidgateLoadShed", quiet_until=late + 5, fires_at=late + 10, over_at=well + 7)


@causes("VidgateArtifactsFailing")
async def test_the_bucket_is_away(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures cannot be kept for a quarter of an hour, and then they can."""
    gateway = await start(Scripted(), claim_interval_s=SELDOM_S)
    bucket = Bucket(gateway, monkeypatch)

    async def asked() -> None:
        status = (await gateway.post("/generate/video")).status_code
        assert status == (202 if bucket.trouble is None else 503)

    async with watching(gateway) as seen:
        await every_minute(gateway, 4, asked)
        away = seen.minute
        bucket.trouble = GenericError("Generic S3 error: timed out")
        await every_minute(gateway, 12, asked)
        back = seen.minute
        bucket.trouble = None
        await minutes(gateway, 8)
    seen.judge(tmp_path, "VidgateArtifactsFailing", quiet_until=away + 5, fires_at=away + 9, over_at=back + 7)
