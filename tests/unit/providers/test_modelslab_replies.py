"""Whatever the vendor sends: a typed outcome, never an exception, and never the key."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from providers.contract import Accepted, Failed, Finished, InDoubt, NoEvidence, NotFound, Pending, Refused, RemoteFile
from providers.modelslab.account import read_balance, read_processing_count, read_upload, wallet_evidence
from providers.modelslab.outcomes import WORDINGS, check_outcome, submit_outcome
from providers.modelslab.replies import read_body, read_id, scrub, seconds
from providers.transport import Reply

SECRET = "mlk-5f2b9c-secret"

words = st.sampled_from(["success", "processing", "failed", "error", "Success", "queued", "", SECRET, None, 1, {}])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.just(SECRET), st.just(10**400)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
messages = st.one_of(
    values, st.sampled_from([wording.fragment for wording in WORDINGS]), st.just(f"Invalid API key {SECRET}")
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "status": words,
        "message": messages,
        "messege": messages,
        "id": st.one_of(values, st.just(f"a-{SECRET}"), st.integers(0, 10**6)),
        "output": st.one_of(values, st.just(["https://files.example/a.mp4"]), st.just("https://files.example/a.mp4")),
        "proxy_links": values,
        "future_links": st.just(["https://files.example/future.mp4"]),
        "eta": values,
        "retry_after": values,
        "generationTime": values,
        "data": values,
        "processing_count": values,
        "meta": st.one_of(values, st.fixed_dictionaries({"model_id": values, "seed": values})),
    },
)
statuses = st.one_of(
    st.sampled_from([200, 201, 302, 400, 401, 402, 403, 404, 422, 429, 500, 502, 503, 504]), st.integers(100, 999)
)
raw = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda body: json.dumps(body).encode(), bodies),
    st.just(b"[" * 100_000),
    st.just(b'{"status": "error", "message": ' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}"),
    st.just(b'{"status":"processing","id":1,"eta":1e999}'),
)
replies = st.builds(Reply, statuses, st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=2), raw)


def texts(outcome: object) -> str:
    """Everything an outcome could show, except the address of a result."""
    return repr([getattr(outcome, name, None) for name in ("detail", "token", "report", "kind")]).lower()


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(replies)
@example(Reply(200, {}, json.dumps({"status": SECRET, "message": f"no {SECRET}", "id": SECRET}).encode()))
@example(Reply(200, {}, json.dumps({"status": "processing", "id": 1, "meta": {"model_id": SECRET}}).encode()))
def test_any_reply_to_any_call_is_a_typed_outcome_without_the_key(reply):
    """No reply raises, every outcome is of the contract, and the key never comes back in a text."""
    submitted = submit_outcome(reply, SECRET)
    checked = check_outcome(reply, SECRET, "146")
    assert isinstance(submitted, Finished | Accepted | Refused | InDoubt)
    assert isinstance(checked, Pending | Finished | Failed | InDoubt)
    for outcome in (submitted, checked):
        assert SECRET not in texts(outcome)
        assert len(texts(outcome)) < 2_000
    read_balance(reply)
    read_processing_count(reply)
    read_upload(reply, SECRET)


@given(replies)
def test_a_link_to_come_is_never_a_result(reply):
    """No reply, however odd, makes a future link a delivered file."""
    for outcome in (submit_outcome(reply, SECRET), check_outcome(reply, SECRET, "146")):
        if isinstance(outcome, Finished):
            assert RemoteFile("https://files.example/future.mp4") not in outcome.files


@given(replies)
def test_an_ambiguous_status_is_a_refusal_for_no_body(reply):
    """502 and 504 on submit stay in doubt unless the body says success, processing or failed."""
    reply = Reply(504, reply.headers, reply.body)
    outcome = submit_outcome(reply, SECRET)
    assert not isinstance(outcome, Refused) or read_body(reply, SECRET).state == "failed"


@given(st.one_of(st.integers(0, 2**63 - 1), st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)))
def test_an_id_survives_the_trip_through_the_token(value):
    """An id as number or text is the same text on every reading."""
    text = read_id(value)
    assert text == str(value)
    assert read_id(json.loads(json.dumps({"id": text}))["id"]) == text


@pytest.mark.parametrize(
    "value", ["", "a/b", "../x", "a b", "a" * 65, "é", "1\n", True, False, None, -1, 2**63, 1.0, [], {}]
)
def test_what_could_change_an_address_is_no_id(value):
    """An id goes into a path: anything but letters, digits, hyphen and underscore is refused."""
    assert read_id(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (30, 30.0),
        ("30", 30.0),
        (416.94, 416.94),
        (0, 0.0),
        (-1, None),
        ("soon", None),
        (float("nan"), None),
        (float("inf"), None),
        (10**400, None),
        (True, None),
        (None, None),
        ("nan", None),
        ([], None),
    ],
)
def test_a_duration_is_read_from_any_plausible_form(value, expected):
    """Integers, floats and digits in text are seconds; nonsense is nothing."""
    assert seconds(value) == expected


def test_scrubbing_leaves_other_text_alone():
    """Only the secret goes."""
    assert scrub(f"Invalid API key {SECRET}!", SECRET) == "Invalid API key [key]!"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"balance": 43.6, "currency": "USD"}, 43_600_000),
        ({"balance": "0.1", "currency": "USD"}, 100_000),
        ({"balance": 0.1 + 0.2}, 300_000),
        ({"balance": -0.5}, -500_000),
        ({"balance": 12.3456789}, 12_345_678),
        ({"balance": 5, "currency": "EUR"}, None),
        ({"balance": True}, None),
        ({"balance": "a lot"}, None),
        ({"balance": "NaN"}, None),
        ({"balance": "Infinity"}, None),
        ({"balance": 10**30}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_wallet_is_read_without_binary_rounding(data, expected):
    """The float on the wire becomes exact micro-USD, rounded down, or nothing."""
    balance = read_balance(Reply(200, {}, json.dumps({"status": "success", "data": data}).encode()))
    assert (balance.amount_micros if balance else None) == expected


@pytest.mark.parametrize(
    ("before", "after", "charged_at_submit", "processing", "verdict", "words"),
    [
        (5_000_000, 4_800_000, True, None, NoEvidence, "charge seen: the wallet fell by $0.200000"),
        (5_000_000, 4_800_000, None, None, NoEvidence, "charge seen"),
        (5_000_000, 5_000_000, True, None, NotFound, "charged when a request is taken"),
        (5_000_000, 5_000_000, None, 0, NoEvidence, "not known when"),
        (5_000_000, 5_000_000, False, 0, NotFound, "nothing is being processed"),
        (5_000_000, 5_000_000, False, 1, NoEvidence, "may still be processing"),
        (5_000_000, 5_000_000, False, None, NoEvidence, "may still be processing"),
        (5_000_000, 9_000_000, True, 0, NoEvidence, "topped up"),
        (None, 5_000_000, True, 0, NoEvidence, "could not be read"),
        (5_000_000, None, True, 0, NoEvidence, "could not be read"),
    ],
)
def test_the_wallet_clears_a_submit_only_when_the_charge_moment_is_known(
    before, after, charged_at_submit, processing, verdict, words
):
    """An unchanged wallet is evidence only together with knowing when the vendor charges."""
    evidence = wallet_evidence(
        before_micros=before, after_micros=after, charged_at_submit=charged_at_submit, processing_count=processing
    )
    assert isinstance(evidence, verdict)
    assert words in evidence.detail
