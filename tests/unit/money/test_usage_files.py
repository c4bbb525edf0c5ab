"""Usage files: a vendor's charges from JSON and CSV, exactly, or a sentence that says which row is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money.usage_files import UsageFileError, VendorCharge, read_usage

AT = 1_790_856_000.0


def test_the_request_history_of_a_vendor_is_read() -> None:
    """Rows as in WIRE 1.7: dollars as credits, failures unbilled, a row repeated for every file of a result."""
    rows = [
        {"request_id": "r1", "model_status": "COMPLETED", "credits_deduction": 0.1659, "model_created": AT},
        {"request_id": "r1", "model_status": "COMPLETED", "credits_deduction": 0.1659, "model_created": AT},
        {"request_id": "r2", "model_status": "FAILED", "credits_deduction": 0, "model_created": AT},
        {"request_id": "r3", "model_status": "PENDING", "credits_deduction": None, "model_created": AT},
        {"request_id": "r4", "model_status": "COMPLETED", "credits_deduction": 0, "model_created": AT},
    ]
    assert read_usage(json.dumps({"data": rows, "total": 5}), "vendor") == [VendorCharge("vendor", "r1", 165_900, AT)]


def test_the_documented_csv_form_is_read() -> None:
    """Columns in any order, with times as ISO or unix seconds, with or without a byte order mark."""
    text = "\ufeffat,request_id,amount_usd,status\r\n2026-10-01T12:00:00Z,r1,0.1659,completed\r\n1790856000,r2,2,\r\n"
    assert read_usage(text, "vendor") == [
        VendorCharge("vendor", "r1", 165_900, AT),
        VendorCharge("vendor", "r2", 2_000_000, AT),
    ]


def test_an_invoice_in_micros_is_read() -> None:
    """Whole micro-USD need no conversion, however many they are."""
    rows = [{"request_id": "r", "amount_micros": 5_000_000_000, "at": AT}]
    assert read_usage(json.dumps({"charges": rows}), "vendor") == [VendorCharge("vendor", "r", 5_000_000_000, AT)]


def test_prices_with_many_digits_go_to_the_nearest_micro() -> None:
    """A float on the vendor's side costs no micro on ours."""
    text = '[{"request_id": "r", "amount_usd": 0.16590000000000002, "at": 1790856000}]'
    assert read_usage(text, "vendor")[0].amount_micros == 165_900


@pytest.mark.parametrize("status", ["FAILED", "canceled", "Pending"])
def test_a_charge_counts_whatever_became_of_the_render(status: str) -> None:
    """A vendor that charges for failures is believed; only an amount that is left open needs a status to explain it."""
    rows = [
        {"request_id": "r1", "status": status, "amount_usd": "0.5", "at": AT},
        {"request_id": "r2", "status": status},
    ]
    assert read_usage(json.dumps(rows), "vendor") == [VendorCharge("vendor", "r1", 500_000, AT)]


def test_a_date_without_dashes_is_a_date() -> None:
    """A day written as eight digits is not a moment of 1970."""
    text = "request_id,amount_usd,date\r\nr,1,20261001\r\n"
    assert read_usage(text, "vendor")[0].at == AT - 43_200


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"rows": 3}', "not a list of rows"),
        ("[1]", "not a list of rows"),
        ('[{"request_id": "r", "at": 1790856000}]', "row 1: no amount"),
        ('[{"amount_usd": "1", "at": 1790856000}]', "row 1: a charge without a request id"),
        ('[{"request_id": " ", "amount_usd": "1", "at": 1790856000}]', "row 1: a charge without a request id"),
        ('[{"request_id": "r", "amount_usd": "-1", "at": 1790856000}]', "row 1: a refund"),
        ('[{"request_id": "r", "amount_micros": -1, "at": 1790856000}]', "row 1: a refund"),
        ('[{"request_id": "r", "amount_usd": "1e999999999", "at": 1790856000}]', "row 1: amount must lie between"),
        ('[{"request_id": "r", "amount_usd": 1e99999999999999999999, "at": 1790856000}]', "not JSON|row 1: amount"),
        (f"request_id,amount_micros,at\nr,{'9' * 5000},1790856000", "row 1: amount_micros must be an integer"),
        ('[{"request_id": "r", "amount_usd": "1", "at": 5}]', "row 1: '5' is not a time"),
        ('[{"request_id": "r", "amount_usd": NaN, "at": 1790856000}]', "row 1: amount must lie between"),
        ('[{"request_id": "r", "amount_usd": "x", "at": 1790856000}]', "row 1: amount is not a number"),
        ('[{"request_id": "r", "amount_micros": 1.5, "at": 1790856000}]', "row 1: amount_micros must be an integer"),
        ('[{"request_id": "r", "amount_usd": "1"}]', "row 1: '' is not a time"),
        ('[{"request_id": "r", "amount_usd": "1", "at": "soon"}]', "row 1: 'soon' is not a time"),
        ('[{"request_id": "r", "amount_usd": "1", "at": 1e300}]', "is not a time"),
        (
            "request_id,amount_usd,at\nr,1,1790856000\nr,2,1790856000",
            "row 2: r stands there twice with different amounts",
        ),
        ('request_id,amount_usd,at\n"r,1,1790856000', "unexpected end of data"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(text: str, what: str) -> None:
    """Nothing is imported from a file with a mistake, and the mistake is named."""
    with pytest.raises(UsageFileError, match=what):
        read_usage(text, "vendor")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=4,
)
fields = st.sampled_from(["request_id", "amount_usd", "amount_micros", "at", "status", "other"])


@given(st.one_of(st.text(), st.lists(st.dictionaries(fields, json_values)).map(json.dumps)))
def test_no_text_does_anything_but_load_or_say_why(text: str) -> None:
    """Whatever a file holds, the only error is the one that tells."""
    try:
        charges = read_usage(text, "vendor")
    except UsageFileError:
        return
    assert all(charge.amount_micros > 0 and charge.request_id for charge in charges)
