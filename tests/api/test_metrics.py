"""`GET /metrics`: what a scraper reads is what happened, to the micro-dollar, and nobody reads it without the token."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from gateway.store.database import StoreUnavailableError
from gateway.telemetry.catalogue import METRICS
from gateway.telemetry.snapshot import FIGURES_AGE_MAX_S
from providers.contract import FailureKind, InDoubt, Refused
from tests.corpus.cases import read as corpus
from tests.support.fixtures import Start
from tests.support.gateway import BASE_URL, Gateway
from tests.support.scripted import Lost, Scripted, delivers

pytestmark = pytest.mark.anyio

Sample = tuple[str, frozenset[tuple[str, str]]]
TOKEN = "a token of the scraper, long enough"


async def scraped(gateway: Gateway, headers: dict[str, str] | None = None) -> dict[Sample, float]:
    """Every sample by name and labels, once the figures of the store are due again."""
    await gateway.clock.sleep(FIGURES_AGE_MAX_S + 0.1)
    response = await gateway.client.get("/metrics", headers=headers or {})
    assert response.status_code == 200, response.text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def total(samples: dict[Sample, float], name: str, **labels: str) -> float:
    """The sum of a metric over all series that have these labels."""
    wanted = set(labels.items())
    return sum(value for (found, have), value in samples.items() if found == name and wanted <= have)


async def test_a_picture_that_ends_its_decoder_is_counted(start: Start) -> None:
    """An operator sees that somebody sends bombs; the caller is told the reason, and the next picture is taken."""
    gateway = await start(Scripted())
    refused = await gateway.post(image=b64encode(corpus("jpeg-8000-scans")).decode())
    assert (refused.status_code, refused.json()["reason"]) == (422, "too_costly")
    assert (await gateway.made())["status"] == "succeeded"
    assert total(await scraped(gateway), "vidgate_media_workers_ended_total", kind="too_costly") == 1


async def test_what_is_scraped_is_what_the_ledger_says(start: Start) -> None:
    """Spend, cost, captures, attempts, retries and failovers after a day with faults."""
    alpha, beta = Scripted(), Scripted("beta", price_micros=150_000)
    alpha.submits += [
        Refused(FailureKind.RATE_LIMITED, "429", retry_after_s=1.0),
        Refused(FailureKind.SERVER_ERROR, "500"),
    ]
    gateway = await start(alpha, beta)
    jobs = [await gateway.ended(await gateway.submit()) for _ in range(3)]
    samples = await scraped(gateway)
    balances = await gateway.balances()
    team = gateway.team_id
    assert total(samples, "vidgate_spend_micro_usd_total", team=team) == balances[f"team:{team}"] > 0
    for vendor in ("alpha", "beta"):
        cost = total(samples, "vidgate_cost_micro_usd_total", provider=vendor)
        assert cost == -balances.get(f"provider:{vendor}", 0)
    assert total(samples, "vidgate_captures_total") == total(samples, "vidgate_jobs_ended_total") == 3
    assert total(samples, "vidgate_jobs_admitted_total", media="video") == 3
    tries = [attempt for job in jobs for attempt in job["attempts"]]
    assert total(samples, "vidgate_retries_total") == sum(attempt["submits"] - 1 for attempt in tries) > 0
    assert total(samples, "vidgate_failovers_total") == sum(len(job["attempts"]) - 1 for job in jobs) > 0
    assert total(samples, "vidgate_attempts_total") == len(tries)
    assert total(samples, "vidgate_attempts_total", outcome="server_error") == 1
    assert total(samples, "vidgate_job_duration_seconds_count", status="succeeded") == 3
    assert total(samples, "vidgate_job_render_seconds_count") == 3
    parts_s = [total(samples, f"vidgate_job_{part}_seconds_sum") for part in ("render", "overhead")]
    assert min(parts_s) > 0
    assert sum(parts_s) == pytest.approx(total(samples, "vidgate_job_duration_seconds_sum"))
    assert total(samples, "vidgate_vendor_call_seconds_count", call="submit", outcome="refused") == 2
    assert total(samples, "vidgate_ledger_imbalance_micro_usd") == 0
    assert total(samples, "vidgate_holds_open") == 0


async def test_what_stands_open_is_told_while_it_does(start: Start) -> None:
    """Holds, doubt with its age and budgets are read from the store, and go when they are over."""
    alpha = Scripted(latency_s=900.0)
    alpha.submits.append(Lost(accepted=True, status=None))
    gateway = await start(alpha, retry={"ambiguous": "never"}, jobs={"in_doubt_s": 900})
    await gateway.set_budget(2_000_000)
    job_id = await gateway.submit()
    await gateway.clock.sleep(300.0)
    samples = await scraped(gateway)
    held = total(samples, "vidgate_holds_open_micro_usd", team=gateway.team_id)
    assert held > 0
    assert total(samples, "vidgate_holds_open") == 1
    left = total(samples, "vidgate_budget_remaining_micro_usd", team=gateway.team_id, scope="team", window="month")
    assert left == 2_000_000 - held
    assert total(samples, "vidgate_attempts_in_doubt") == 1
    assert 300 <= total(samples, "vidgate_attempts_in_doubt_oldest_seconds") < 400
    assert total(samples, "vidgate_outcomes_in_doubt_total") == 1
    assert total(samples, "vidgate_jobs_active", status="running") == 1
    assert total(samples, "vidgate_jobs_driven") == 1
    await gateway.ended(job_id, within_s=200_000.0)
    samples = await scraped(gateway)
    assert total(samples, "vidgate_attempts_in_doubt") == 0
    assert total(samples, "vidgate_attempts_in_doubt_oldest_seconds") == 0
    assert total(samples, "vidgate_holds_open") == 0


async def test_counters_of_routes_begin_at_nothing(start: Start) -> None:
    """A rate sees the first failure of a route only where the series was there before it."""
    samples = await scraped(await start(Scripted()))
    for name in ("retries", "failovers", "outcomes_in_doubt", "outcomes_unrecognised"):
        assert samples[f"vidgate_{name}_total", frozenset({("route", "alpha/one")})] == 0
    assert samples["vidgate_retry_budget_exhausted_total", frozenset({("provider", "alpha")})] == 0
    assert samples["vidgate_store_errors_total", frozenset({("operation", "write")})] == 0


async def test_credit_and_its_runway_are_what_the_database_says(start: Start) -> None:
    """The vendor's word on its balance, the burn of the hour, and how long it lasts; nothing of it when used up."""
    alpha = Scripted(balance_micros=1_000_000)
    gateway = await start(alpha, polling={"balance_every_s": 60})
    assert total(await scraped(gateway), "vidgate_provider_runway_seconds") == 0, "absent while nothing is spent"
    for _ in range(5):
        await gateway.made()
    await gateway.clock.sleep(61)
    samples = await scraped(gateway)
    assert total(samples, "vidgate_provider_balance_micro_usd", provider="alpha") == 500_000
    assert total(samples, "vidgate_provider_burn_micro_usd_per_hour", provider="alpha") == 500_000
    assert total(samples, "vidgate_provider_runway_seconds", provider="alpha") == 3_600
    alpha.balance_micros = alpha.charged_micros
    await gateway.clock.sleep(61)
    samples = await scraped(gateway)
    assert samples["vidgate_provider_runway_seconds", frozenset({("provider", "alpha")})] == 0


async def test_a_vendors_price_is_told_of_once_there_is_enough_to_go_by(start: Start) -> None:
    """Four reported costs say nothing of the price; the fifth does, at the next look an hour later at most."""
    alpha = Scripted()
    gateway = await start(alpha, claim_interval_s=60.0)
    for number in range(5):
        alpha.checks.append(delivers(cost_micros=alpha.price_micros * 3 // 2))
        await gateway.made()
        if number == 3:
            await gateway.clock.sleep(3_700)
            assert total(await scraped(gateway), "vidgate_price_drift_ratio") == 0
    await gateway.clock.sleep(3_700)
    assert total(await scraped(gateway), "vidgate_price_drift_ratio", route="alpha/one") == 1.5


async def test_a_reply_that_matches_nothing_is_counted(start: Start) -> None:
    """The alarm for a vendor that changed its API has something to go by."""
    alpha = Scripted()
    alpha.checks.append(InDoubt("a new word", status=299, unrecognised=True))
    gateway = await start(alpha)
    await gateway.ended(await gateway.submit())
    assert total(await scraped(gateway), "vidgate_outcomes_unrecognised_total") == 1


async def test_every_metric_of_the_catalogue_is_exposed_in_both_forms(start: Start) -> None:
    """Prometheus' own parsers read the text form and OpenMetrics, and exemplars name the trace of the job."""
    gateway = await start(Scripted())
    job_id = await gateway.submit()
    await gateway.ended(job_id)
    plain = await gateway.client.get("/metrics")
    names = {family.name for family in text_string_to_metric_families(plain.text)}
    assert {metric.name for metric in METRICS} - names == set()
    modern = await gateway.client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    exemplars = {
        sample.exemplar.labels["trace_id"]
        for family in openmetrics_families(modern.text)
        for sample in family.samples
        if sample.exemplar
    }
    assert exemplars == {(await gateway.job(job_id))["trace_id"]}


async def test_ten_thousand_strange_inputs_add_no_series(start: Start) -> None:
    """Paths, fields, keys, ids and headers of a client's making are never labels."""
    gateway = await start(Scripted())
    transport = httpx.ASGITransport(gateway.app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL, headers=gateway.client.headers) as client:
        seen: list[set[Sample]] = []
        await scraped(gateway)  # a scrape counts itself, too
        for number in range(2_500):
            if number in {25, 2_499}:
                seen.append(set(await scraped(gateway)))
            word = f"w{number}"
            strange = {"user-agent": word, "accept": f"x/{word}", "idempotency-key": word, "x-request-id": word}
            match number % 5:
                case 0:
                    await client.get(f"/jobs/{word}", headers=strange)
                case 1:
                    await client.get("/jobs", headers=strange | {"authorization": f"Bearer vg_{word}"})
                case 2:
                    wishes = {word: word} if number % 2 else {"prompt": word, "routing": {"pin": f"{word}/{word}"}}
                    await client.post("/generate/video", json=wishes, headers=strange)
                case 3:
                    await client.get(f"/{word}", headers=strange)
                case _:
                    await client.post(f"/jobs/{word}/cancel", headers=strange)
        before, after = seen
        assert after - before == set()


async def test_a_scraper_without_the_token_reads_nothing(start: Start) -> None:
    """401 in the problem's own form; with the token the whole."""
    gateway = await start(Scripted(), telemetry={"metrics_token": TOKEN})
    for headers in ({"authorization": ""}, {"authorization": "Bearer guess"}, {}):
        response: httpx.Response = await gateway.client.get("/metrics", headers=headers)
        assert response.status_code == 401
        assert response.json()["type"].endswith("/unauthorized")
        assert "vidgate_" not in response.text
    assert await scraped(gateway, {"authorization": f"Bearer {TOKEN}"})


async def test_a_silent_store_does_not_silence_the_process(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process counts is told while the database is down: that is when somebody looks."""
    gateway = await start(Scripted())
    await gateway.ended(await gateway.submit())

    async def down(*_args: Any) -> Any:
        raise StoreUnavailableError("the database does not answer")

    await gateway.clock.sleep(FIGURES_AGE_MAX_S + 1)
    with monkeypatch.context() as patch:
        patch.setattr(gateway.store, "read", down)
        response = await gateway.client.get("/metrics")
    assert response.status_code == 200
    assert "vidgate_jobs_ended_total" in response.text
    assert 'vidgate_store_errors_total{operation="read"} 2.0' in response.text, "indexed figures and ledger"
    ages_s = re.findall(r'vidgate_store_figures_age_seconds{kind="(\w+)"} (\S+)', response.text)
    assert {kind for kind, age_s in ages_s if float(age_s) > FIGURES_AGE_MAX_S} == {"indexed", "ledger"}
    assert "vidgate_ledger_imbalance_micro_usd" not in response.text, "never read is not 0"


async def test_a_store_that_hangs_does_not_hold_the_scraper_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scraper gives up after ten seconds and hears nothing; a database that is away is waited for longer."""
    gateway = await start(Scripted())

    async def hanging(*_args: Any) -> Any:
        await gateway.clock.sleep(3_600)

    await gateway.clock.sleep(FIGURES_AGE_MAX_S + 1)
    began_at = gateway.clock.now()
    with monkeypatch.context() as patch:
        patch.setattr(gateway.store, "read", hanging)
        response = await gateway.client.get("/metrics")
    assert gateway.clock.now() - began_at < 10
    assert response.status_code == 200
    assert "vidgate_jobs_driven" in response.text
