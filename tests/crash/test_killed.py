"""Real processes, real signals: what was acknowledged survives, and nothing is rendered or paid twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from gateway.money import ledger
from gateway.store.schema import attempts, jobs
from tests.support.gateway import unsound
from tests.support.pictures import picture_base64
from tests.support.processes import Stand, stand

PRICE = 165_900
Making = Callable[..., AbstractContextManager[Stand]]


@pytest.fixture
def made(tmp_path: Path) -> Making:
    def make(*, render_s: float = 1.0, sections: dict[str, Any] | None = None, **switches: Any) -> Any:
        latency = {"svd": {"kind": "constant", "mean_s": render_s}}
        queue = {"kind": "constant", "mean_s": 0.0}
        return stand(tmp_path, switches={"latency": latency, "queue": queue, **switches}, sections=sections or {})

    return make


def admitted(running: Stand, key: str | None = None) -> str:
    """Have a job admitted; its id."""
    headers = {"idempotency-key": key} if key else {}
    response = running.client.post("/generate/video", json={"image": picture_base64()}, headers=headers)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def state_of(running: Stand, job_id: str) -> str | None:
    """The state of a job's only attempt."""
    tries = running.client.get(f"/jobs/{job_id}").json()["attempts"]
    return tries[-1]["state"] if tries else None


def assert_sound(running: Stand) -> dict[str, int]:
    """No rule of the books is broken; the balances."""
    with running.books() as connection:
        assert unsound(connection) == []
        return ledger.trial_balance(connection)


def test_a_killed_gateway_finishes_the_same_render_without_a_second_submit(made: Making) -> None:
    """SIGKILL while the vendor works: the next process goes on from the stored token, and the vendor counts one."""
    with made(render_s=1.5) as running:
        first = running.start()
        job_id = admitted(running)
        running.until(lambda: state_of(running, job_id) == "accepted")
        first.kill()
        second = running.start()
        job = running.ended(job_id)
        assert (job["status"], job["bill"]["price_micros"], len(job["attempts"])) == ("succeeded", PRICE, 1)
        meter = running.meter()
        assert (meter["submits_received"], meter["submits_accepted"], meter["charged_micros"]) == (1, 1, PRICE)
        assert running.client.get(f"/jobs/{job_id}/content").content[4:8] == b"ftyp"
        assert second.stop() == 0
        assert assert_sound(running) == {f"team:{running.team_id}": PRICE, "provider:segmind": -PRICE}


@pytest.mark.parametrize(("fault", "submits"), [("timeout", 1), ("timeout_before_accept", 2)])
def test_a_death_between_intent_and_token_is_looked_up_and_rendered_once(
    made: Making, fault: str, submits: int
) -> None:
    """The reply died with the process: the vendor's records tell whether there is a render, and one is all there is."""
    with made(render_s=0.3, hang_s=600.0) as running:
        first = running.start()
        running.spoil("submit", fault)
        job_id = admitted(running)
        running.until(lambda: running.meter()["submits_received"] == 1)
        running.until(lambda: running.meter()["submits_accepted"] + running.meter()["submits_rejected"] == 1)
        assert state_of(running, job_id) == "prepared"
        first.kill()
        second = running.start()
        job = running.ended(job_id)
        assert job["status"] == "succeeded"
        told = [entry["what"] for entry in job["attempts"][0]["events"]]
        assert told[:3] == ["submit", "in_doubt", "looked_up"]
        meter = running.meter()
        assert (meter["submits_received"], meter["submits_accepted"]) == (submits, 1)
        assert second.stop() == 0
        assert assert_sound(running) == {f"team:{running.team_id}": PRICE, "provider:segmind": -PRICE}


def test_a_terminated_gateway_hands_its_jobs_over_at_once(made: Making) -> None:
    """SIGTERM while renders run at the vendor: exit 0 without waiting for them, leases free, all finished later."""
    with made(render_s=4.0) as running:
        first = running.start()
        ids = [admitted(running) for _ in range(4)]
        running.until(lambda: all(state_of(running, job_id) == "accepted" for job_id in ids))
        assert first.stop() == 0
        with running.books() as connection:
            rows = connection.execute(select(jobs.c.status, jobs.c.lease_owner, jobs.c.lease_until)).all()
        assert [tuple(row) for row in rows] == [("running", None, None)] * 4
        running.switch(speed=1000)
        second = running.start()
        assert {running.ended(job_id)["status"] for job_id in ids} == {"succeeded"}
        assert running.meter()["submits_accepted"] == 4
        assert second.stop() == 0
        assert_sound(running)


def test_a_terminated_gateway_waits_for_a_reply_that_is_on_its_way(made: Making) -> None:
    """SIGTERM during a synchronous render: the reply is taken in, delivered and billed before the process ends."""
    sections = {"providers": {"segmind": {"routes": ("segmind/svd-sync",)}}}
    with made(render_s=1.0) as running:
        whole = running.settings()["providers"]["segmind"] | sections["providers"]["segmind"]
        running.sections = {"providers": {"segmind": whole}}
        first = running.start()
        job_id = admitted(running)
        running.until(lambda: running.meter()["submits_accepted"] == 1)
        assert first.stop() == 0
        with running.books() as connection:
            assert connection.execute(select(jobs.c.id, jobs.c.status)).all() == [(job_id, "succeeded")]
        assert assert_sound(running)["provider:segmind"] == -PRICE


def test_a_second_gateway_on_the_same_file_is_refused_with_the_sentence_that_mends_it(made: Making) -> None:
    """SQLite is for one process; the first one is not disturbed, and a dead one does not block the next."""
    with made() as running:
        first = running.start()
        second = running.start()
        assert second.said.startswith("refused: ")
        assert "is in use by another vidgate server" in second.said
        assert "stop the other one, or set store.url to a PostgreSQL database" in second.said
        running.client.base_url = first.url
        assert running.ended(admitted(running))["status"] == "succeeded"
        first.kill()
        assert running.start().stop() == 0


ROUNDS = 7
KEYS = [f"take-{number}" for number in range(20)]
FAULTS = {
    "submit": {"502_after_accept": 0.1, "502_before_accept": 0.1, "reset_before_reply": 0.1, "429": 0.05},
    "status": {"502_before_accept": 0.1, "500": 0.05},
    "result": {"504_before_accept": 0.1},
    "file": {"502_before_accept": 0.1},
}


def post_until_told(running: Stand, keys: list[str], told: dict[str, str]) -> None:
    """Post one job a key; what is acknowledged is kept, what dies with the gateway is tried again later."""

    def post(key: str) -> None:
        try:
            with httpx.Client(base_url=running.client.base_url, headers=running.client.headers, timeout=10) as client:
                body = {"image": picture_base64()}
                response = client.post("/generate/video", json=body, headers={"idempotency-key": key})
        except httpx.TransportError:
            return
        assert response.status_code == 202, f"{response.text}\n{running.log()[-3000:]}"
        assert told.setdefault(key, response.json()["id"]) == response.json()["id"]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(post, keys))


@pytest.mark.parametrize("seed", [20261120])
def test_kills_at_random_moments_lose_nothing_and_pay_nothing_twice(
    made: Making, seed: int, record_property: Callable[[str, object], None]
) -> None:
    """Twenty jobs, a faulty vendor, a gateway killed seven times: every job ends, and the books say what it says."""
    random = Random(seed)
    with made(render_s=0.8, fault_rates=FAULTS) as running:
        told: dict[str, str] = {}
        for number in range(ROUNDS):
            gateway = running.start()
            fresh = KEYS[number * 3 : number * 3 + 3] + random.sample(KEYS, 2)
            with ThreadPoolExecutor(1) as pool:
                posting = pool.submit(post_until_told, running, fresh, told)
                running.until(lambda: running.client.get("/healthz").status_code == 200)
                pause_s = random.uniform(0.05, 0.9)
                moment = gateway.process.join(pause_s)
                assert moment is None
                gateway.kill()
                posting.result()
        last = running.start()
        post_until_told(running, KEYS, told)
        assert set(told) == set(KEYS)
        ended = {key: running.ended(job_id) for key, job_id in told.items()}
        assert Counter(job["status"] for job in ended.values()) == {"succeeded": len(KEYS)}
        page = running.client.get(f"{running.vendor.url}/inference-request/request-history?per_page=100", headers=KEY)
        rendered = Counter(row["request_body"]["seed"] for row in page.json()["data"])
        meter = running.meter()
        assert last.stop() == 0
        balances = assert_sound(running)
        with running.books() as connection:
            count = connection.execute(select(func.count()).select_from(jobs)).scalar_one()
            seeds = {row.wire["seed"]: row.id for row in connection.execute(select(attempts.c.id, attempts.c.wire))}
        assert count == len(KEYS), "a key made more than one job"
        assert set(rendered) <= set(seeds), "the vendor rendered what no attempt asked for"
        assert max(rendered.values()) == 1, f"an attempt was rendered more than once: {rendered.most_common(3)}"
        assert -balances["provider:segmind"] == meter["charged_micros"] + balances.get("suspense", 0), json.dumps(meter)
        assert balances[f"team:{running.team_id}"] == PRICE * len(KEYS)
        record_property("figure", f"{ROUNDS} kills a case, {len(told)} acknowledged jobs, all ended and paid once")


KEY = {"x-api-key": "SG_5a4db0c0ffee0000"}
