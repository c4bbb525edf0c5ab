"""Finding an ambiguous submit in the vendor's records, and a result whose record has expired."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from providers.contract import (
    Accepted,
    Failed,
    Finished,
    InDoubt,
    NoEvidence,
    NotFound,
    Pending,
    RemoteFile,
    Report,
)
from providers.segmind.catalogue import ENDPOINTS
from providers.segmind.history import PAGE_ROWS, PAGES_MAX
from tests.contract.segmind.conftest import Answering
from tests.contract.segmind.support import START, Bench, made_request
from tests.support.sent import sent_of

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ["svd", "svd-sync", "motionctrl-svd", "ssd-img2img-async"])
@pytest.mark.parametrize("fault", ["502_after_accept", "504_after_accept", "reset_before_reply", "timeout"])
async def test_a_run_whose_acceptance_was_lost_is_found_and_delivered(bench: Bench, name: str, fault: str) -> None:
    """The history names the run that was paid for, and the run is picked up from there: one submit, one charge."""
    request = made_request(name)
    sent_at = bench.clock.now()
    bench.spoil("submit", fault)
    assert isinstance(await bench.adapter.submit(request), InDoubt)
    found = await bench.adapter.lookup(bench.sent(request, sent_at=sent_at))
    assert isinstance(found, Accepted)
    assert found.token == {"request_id": bench.meter.accepted[0]}
    assert isinstance(await bench.finish(name, found), Finished)
    assert (bench.meter.submits_received, bench.meter.submits_accepted) == (1, 1)
    assert len(bench.meter.invoice) == (0 if name == "svd-sync" and fault.startswith("50") else 1)


@pytest.mark.parametrize("fault", ["502_before_accept", "504_before_accept", "reset_before_accept"])
async def test_a_submit_that_was_never_accepted_is_known_to_be_absent(bench: Bench, fault: str) -> None:
    """A complete history without the request is proof that repeating it pays once."""
    request = made_request("svd")
    bench.spoil("submit", fault)
    assert isinstance(await bench.adapter.submit(request), InDoubt)
    assert isinstance(await bench.adapter.lookup(bench.sent(request)), NotFound)
    assert isinstance(await bench.adapter.submit(request), Accepted)
    bench.clock.advance(60)
    assert len(bench.meter.invoice) == 1


async def test_another_attempt_with_other_inputs_is_not_mistaken_for_it(bench: Bench) -> None:
    """A request matches by every parameter that was sent, the seed first of all."""
    await bench.submit("svd", seed=1)
    await bench.submit("motionctrl-svd", seed=2)
    assert isinstance(await bench.adapter.lookup(bench.sent(made_request("svd", seed=2))), NotFound)
    assert isinstance(await bench.adapter.lookup(bench.sent(made_request("svd", seed=1, fps=8))), NotFound)
    assert isinstance(await bench.adapter.lookup(bench.sent(made_request("svd", seed=1))), Accepted)


async def test_a_request_that_belongs_to_another_attempt_is_left_alone(bench: Bench) -> None:
    """Two identical requests are told apart by the ids that are already claimed."""
    request = made_request("svd")
    first = await bench.adapter.submit(request)
    assert isinstance(first, Accepted)
    claimed = frozenset({str(first.token["request_id"])})
    assert isinstance(await bench.adapter.lookup(bench.sent(request, claimed=claimed)), NotFound)
    second = await bench.adapter.submit(request)
    assert isinstance(second, Accepted)
    assert await bench.adapter.lookup(bench.sent(request, claimed=claimed)) == Accepted(
        second.token, report=Report(str(second.token["request_id"]))
    )


async def test_a_request_of_another_day_is_not_the_one(bench: Bench) -> None:
    """What was recorded a day from the submit is no evidence of it, however wrong a clock may be."""
    request = made_request("svd")
    await bench.adapter.submit(request)
    bench.clock.advance(86_400)
    assert isinstance(await bench.adapter.lookup(bench.sent(request)), NotFound)


# A vendor's clock that is off by minutes, and records that tell a local time as if it were universal.
WRONG_CLOCKS_S = [300.0, -300.0, 3_600.0, -8 * 3_600.0, 14 * 3_600.0]


@pytest.mark.parametrize("off_s", WRONG_CLOCKS_S)
async def test_a_clock_that_is_wrong_never_makes_a_paid_run_absent(answering: Answering, off_s: float) -> None:
    """The same inputs at another time may be this submit: no evidence, and never "it is not there"."""
    other = row(request_id="r-2", request_body={"seed": 1})
    shown = page(row(model_created=START + off_s), other)
    assert isinstance(await look_up(answering, shown), NoEvidence)
    assert isinstance(await look_up(answering, shown, claimed=frozenset({"r-1"})), NotFound)


@pytest.mark.parametrize("off_s", WRONG_CLOCKS_S)
async def test_a_drawn_seed_names_its_run_whatever_the_clock_says(answering: Answering, off_s: float) -> None:
    """Inputs that were drawn for one attempt are nobody else's: the run is followed, wherever its time is."""
    found = await look_up(answering, page(row(model_created=START + off_s)), is_unique=True)
    assert found == Accepted({"request_id": "r-1"}, report=Report("r-1"))


async def test_a_run_of_the_right_time_goes_before_one_of_another(answering: Answering) -> None:
    """With the same inputs twice, the one whose time fits is the submit's."""
    shown = page(row(request_id="r-2"), row(model_created=START - 3_600))
    assert (await look_up(answering, shown)).report.request_id == "r-2"
    assert (await look_up(answering, shown, is_unique=True)).report.request_id == "r-2"


async def test_records_behind_a_late_clock_are_read_as_far_back_as_that_clock_can_be(answering: Answering) -> None:
    """The newest row is an hour old, so the clock may be an hour late: the run on the second page is found."""
    filler, late = row(request_body={"seed": 1}), START - 3_600
    first = [filler | {"request_id": f"f-{index}", "model_created": late - index} for index in range(PAGE_ROWS)]
    second = page(row(model_created=late - PAGE_ROWS))
    assert isinstance(await look_up(answering, page(*first), second, is_unique=True), Accepted)


async def test_a_busy_account_is_not_read_to_its_end(answering: Answering) -> None:
    """A row of this minute shows that the clock is right: reading stops where the submit cannot be any more."""
    filler = row(request_body={"seed": 1})
    times = [START, *(START - 400 - index for index in range(PAGE_ROWS - 1))]
    rows = [filler | {"request_id": f"f-{index}", "model_created": at} for index, at in enumerate(times)]
    adapter, seen = answering(page(*rows))
    found = await adapter.lookup(sent_of(made_request("svd"), sent_at=START, until=START))
    assert (isinstance(found, NotFound), len(seen)) == (True, 1)


async def test_a_history_that_lags_is_given_time_before_it_is_believed(bench: Bench) -> None:
    """The first empty answer is not proof: the records may not show the request yet."""
    bench.switch(history_lag_s=5.0)
    request = made_request("svd")
    bench.spoil("submit", "502_after_accept")
    await bench.adapter.submit(request)
    assert isinstance(await bench.adapter.lookup(bench.sent(request)), NotFound), "without settling it is missed"
    patient = bench.provider(history_settle_s=10.0)
    assert isinstance(await patient.lookup(bench.sent(request)), Accepted)


@pytest.mark.parametrize(
    "fault", ["502_before_accept", "500", "429", "reset_before_reply", "reset_mid_body", "timeout"]
)
async def test_records_that_cannot_be_read_are_no_evidence(bench: Bench, fault: str) -> None:
    """Silence of the history proves nothing."""
    bench.spoil("history", fault)
    assert isinstance(await bench.adapter.lookup(bench.sent(made_request("svd"))), NoEvidence)


async def test_many_requests_are_read_page_by_page(bench: Bench) -> None:
    """The request is found on a later page, and its absence is only reported after the last page."""
    request = made_request("svd", seed=7)
    bench.spoil("submit", "502_after_accept")
    await bench.adapter.submit(request)
    for seed in range(100, 100 + PAGE_ROWS + 5):
        bench.simulator.vendor.start("svd", {}, {"seed": seed}, picture=b"", error=None)
    assert isinstance(await bench.adapter.lookup(bench.sent(request)), Accepted)
    assert bench.meter.calls["history"] == 2
    assert isinstance(await bench.adapter.lookup(bench.sent(made_request("svd", seed=8))), NotFound)


def page(*rows: Any, **around: Any) -> httpx.Response:
    """A page of the history in its default envelope."""
    return httpx.Response(200, json={"data": list(rows), **around})


def row(**changes: Any) -> dict[str, Any]:
    """A row that is the request `made_request("svd")`."""
    plain = {
        "request_id": "r-1",
        "model_name": "svd",
        "model_status": "PENDING",
        "model_created": START,
        "request_body": dict(made_request("svd").parameters),
    }
    return plain | changes


async def look_up(answering: Answering, *answers: httpx.Response, **changes: Any) -> Any:
    """What the adapter finds for the standard request in these pages."""
    adapter, _ = answering(*answers)
    bench_time = {"sent_at": START, "until": START} | changes
    return await adapter.lookup(sent_of(made_request("svd"), **bench_time))


ENVELOPES = [
    [row()],
    {"requests": [row()]},
    {"history": [row()]},
    {"results": [row()], "total": 1},
    {"data": {"rows": [row()], "page": 1}},
]


@pytest.mark.parametrize("envelope", ENVELOPES)
async def test_the_page_is_read_in_every_plausible_envelope(answering: Answering, envelope: Any) -> None:
    """The vendor does not publish the page's form."""
    assert await look_up(answering, httpx.Response(200, json=envelope)) == Accepted(
        {"request_id": "r-1"}, report=Report("r-1")
    )


async def test_inputs_are_compared_by_value_not_by_spelling(answering: Answering) -> None:
    """Numbers may come back as text and the inputs as JSON in a string."""
    inputs = {name: str(value) for name, value in made_request("svd").parameters.items()}
    assert isinstance(await look_up(answering, page(row(request_body=inputs))), Accepted)
    assert isinstance(await look_up(answering, page(row(request_body=json.dumps(inputs)))), Accepted)


@pytest.mark.parametrize(
    "created", ["2027-01-15T08:00:00Z", "2027-01-15 08:00:01", str(int(START)), START * 1_000, None]
)
async def test_a_time_in_any_form_or_none_is_within_the_window(answering: Answering, created: Any) -> None:
    """A row whose time cannot be read is not left out."""
    assert isinstance(await look_up(answering, page(row(model_created=created))), Accepted)


async def test_a_row_without_inputs_forbids_the_conclusion_that_it_is_not_there(answering: Answering) -> None:
    """A request of that time which does not tell what was sent could be ours."""
    assert isinstance(await look_up(answering, page(row(request_body=None))), NoEvidence)
    assert isinstance(await look_up(answering, page(row(request_body=None)), claimed=frozenset({"r-1"})), NotFound)


async def test_a_page_with_something_that_is_no_row_is_incomplete(answering: Answering) -> None:
    """What cannot be read could be ours."""
    for odd in ("row", {"request_id": 7}, {}, None):
        assert isinstance(await look_up(answering, page(odd)), NoEvidence)


@pytest.mark.parametrize("answer", [httpx.Response(200, json={"message": "ok"}), httpx.Response(200, text="<html>")])
async def test_a_page_of_unknown_form_is_no_evidence(answering: Answering, answer: httpx.Response) -> None:
    """A reply without a list is not an empty history."""
    assert isinstance(await look_up(answering, answer), NoEvidence)


async def test_an_endless_history_and_a_long_window_are_no_evidence(answering: Answering) -> None:
    """The reading is bounded, and what was not read is not claimed to be absent."""
    other = row(request_body={"seed": 1})
    adapter_pages = page(*[other | {"request_id": f"r-{index}"} for index in range(PAGE_ROWS)])
    adapter, seen = answering(adapter_pages)
    outcome = await adapter.lookup(sent_of(made_request("svd"), sent_at=START, until=START))
    assert isinstance(outcome, NoEvidence)
    assert len(seen) == PAGES_MAX
    assert isinstance(await look_up(answering, page(row()), until=START + 40 * 86_400), NoEvidence)


async def test_one_row_a_result_is_still_one_request(answering: Answering) -> None:
    """Several outputs repeat the row; the oldest of several matching requests is taken."""
    newer = row(request_id="r-2", model_created=START + 5)
    assert await look_up(answering, page(newer, row(), row())) == Accepted({"request_id": "r-1"}, report=Report("r-1"))


async def test_a_result_whose_record_expired_is_still_delivered_from_the_history(bench: Bench) -> None:
    """The record lives an hour, the file a week: a gateway that was down in between loses nothing."""
    accepted = await bench.submit("svd")
    assert isinstance(accepted, Accepted)
    bench.clock.advance(7_200)
    outcome = await bench.adapter.check(ENDPOINTS["segmind/svd"].route, accepted.token)
    assert isinstance(outcome, Finished)
    (file,) = outcome.files
    assert isinstance(file, RemoteFile)
    assert (await bench.file(file.url)).status_code == 200
    assert outcome.report.cost_micros == 165_900
    bench.switch(history_available=False)
    assert await bench.adapter.check(ENDPOINTS["segmind/svd"].route, accepted.token) == InDoubt(
        f"HTTP 404: Request {accepted.token['request_id']} not found", status=404, gone=True
    )


async def test_a_failed_run_whose_record_expired_is_a_failure(bench: Bench) -> None:
    """The history remembers failures too."""
    bench.switch(failure_rate=1.0)
    accepted = await bench.submit("svd")
    assert isinstance(accepted, Accepted)
    bench.clock.advance(7_200)
    outcome = await bench.adapter.check(ENDPOINTS["segmind/svd"].route, accepted.token)
    assert isinstance(outcome, Failed)
    assert outcome.detail == bench.simulator.vendor.switches.failure_text


async def test_a_synchronous_run_found_in_the_history_is_followed_there(bench: Bench) -> None:
    """A v1 call that was cut off goes on at the vendor: pending first, then its file."""
    bench.switch(v1_cutoff_s=2.0)
    request = made_request("svd-sync")
    sent_at = bench.clock.now()
    assert isinstance(await bench.adapter.submit(request), InDoubt)
    found = await bench.adapter.lookup(bench.sent(request, sent_at=sent_at))
    assert isinstance(found, Accepted)
    route = ENDPOINTS["segmind/svd-sync"].route
    assert await bench.adapter.check(route, found.token) == Pending()
    assert isinstance(await bench.finish("svd-sync", found), Finished)


@pytest.mark.parametrize("name", ["ssd-img2img", "ssd-img2img-async"])
async def test_every_picture_of_a_run_found_in_the_history_is_delivered(bench: Bench, name: str) -> None:
    """Several outputs repeat the row: a lost reply for three pictures delivers three, at the price of one request."""
    request = made_request(name, samples=3)
    sent_at = bench.clock.now()
    bench.spoil("submit", "reset_before_reply")
    assert isinstance(await bench.adapter.submit(request), InDoubt)
    found = await bench.adapter.lookup(bench.sent(request, sent_at=sent_at))
    assert isinstance(found, Accepted)
    bench.clock.advance(7_200)
    outcome = await bench.finish(name, found)
    assert isinstance(outcome, Finished)
    links = [file.url for file in outcome.files if isinstance(file, RemoteFile)]
    assert len(set(links)) == 3
    assert [(await bench.file(link)).status_code for link in links] == [200, 200, 200]
    assert outcome.report.cost_micros == bench.meter.charged_micros


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [(("COMPLETED", "PENDING"), Pending), (("COMPLETED", "FAILED"), Failed), (("COMPLETED", "?"), InDoubt)],
)
async def test_rows_of_one_request_are_read_together(
    answering: Answering, statuses: tuple[str, ...], kind: type[object]
) -> None:
    """A request is done when every one of its rows is."""
    name = "2c7f59ea-13f1-402c-9353-915a2b5a2124"
    link = "https://images.segmind.com/generations/x.jpg"
    rows = [{"request_id": name, "model_status": status, "generation_url": link} for status in statuses]
    adapter, _ = answering(httpx.Response(404, json={"error": "gone"}), httpx.Response(200, json={"data": rows}))
    route = ENDPOINTS["segmind/ssd-img2img-async"].route
    assert isinstance(await adapter.check(route, {"request_id": name}), kind)


@pytest.mark.parametrize("token", [{}, {"request_id": ""}, {"request_id": "../x"}, {"request_id": 7}])
async def test_a_token_without_a_usable_id_asks_nothing(answering: Answering, token: dict[str, Any]) -> None:
    """No address is built from what is not an id."""
    adapter, seen = answering(httpx.Response(200, json={}))
    outcome = await adapter.check(ENDPOINTS["segmind/svd"].route, token)
    assert isinstance(outcome, InDoubt)
    assert outcome.gone
    assert not seen
