"""Reading the vendor's values: exact money, every form of time, seeds, links and files."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.contract import InlineFile, RemoteFile
from providers.segmind import reading

MOMENTS = st.integers(1_000_000_000, 7_258_118_400).map(lambda value: datetime.fromtimestamp(value, UTC))
LINK = "https://images.segmind.com/generations/a.mp4"
MP4 = b"\x00\x00\x00\x20ftypisom"


@given(amount=st.integers(-(10**15), 10**15))
def test_money_in_any_spelling_is_exact_to_the_micro(amount: int) -> None:
    """Dollars with six decimals come back as the same number of micros, as text and as a JSON number."""
    dollars = Decimal(amount) / 1_000_000
    assert reading.micros(str(dollars)) == amount
    if abs(amount) < 10**12:
        assert reading.micros(float(dollars)) == amount


@pytest.mark.parametrize(
    "value", [None, True, "", "free", "NaN", "Infinity", "-inf", float("nan"), float("inf"), "1e999999", [], {}, "1,5"]
)
def test_what_is_no_money_is_not_read(value: Any) -> None:
    """Not a number, not finite, or beyond reason."""
    assert reading.micros(value) is None


@given(when=MOMENTS)
def test_a_time_is_the_same_in_every_form(when: datetime) -> None:
    """ISO in several spellings, unix seconds, unix milliseconds and HTTP date all name one moment."""
    unix = when.timestamp()
    naive = when.replace(tzinfo=None)
    elsewhere = when.astimezone(timezone(timedelta(hours=5, minutes=30)))
    forms = [
        naive.isoformat(),
        naive.isoformat(sep=" "),
        f"{naive.isoformat()}Z",
        f"{naive.isoformat(sep=' ')} UTC",
        elsewhere.isoformat(),
        str(int(unix)),
        str(int(unix * 1_000)),
        int(unix),
        unix,
        format_datetime(when, usegmt=True),
    ]
    assert [reading.moment(form) for form in forms] == [pytest.approx(unix)] * len(forms)


@given(text=st.text())
def test_any_text_is_a_time_or_none(text: str) -> None:
    """Nothing raises."""
    assert reading.moment(text) is None or isinstance(reading.moment(text), float)


@pytest.mark.parametrize(
    ("value", "seed"),
    [("452361789", 452361789), (7, 7), ("-1", -1), (True, None), ("1.5", None), ("9" * 30, None), (None, None)],
)
def test_a_seed_is_read_from_text_and_number(value: Any, seed: int | None) -> None:
    """v2 names it as text."""
    assert reading.integer(value) == seed


@pytest.mark.parametrize(
    "value", ["", "../x", "a/b", "a?b", "a b", ".", "..", "-a", "x" * 200, 7, None, "a\n", "%2e%2e", "é"]
)
def test_an_id_that_would_change_an_address_is_refused(value: Any) -> None:
    """Only plain ids become part of an address."""
    assert reading.request_id(value) is None


@pytest.mark.parametrize(
    "value", ["javascript:x", "ftp://x/y", "/relative", "", "http://", f"{LINK} x", 7, "h" * 5_000]
)
def test_what_is_no_link_is_not_taken_for_one(value: Any) -> None:
    """Only http and https, without blanks, of bounded length."""
    assert reading.link(value) is None
    assert reading.link(f"{LINK}?{'x' * 5_000}") is None


ENCODED = base64.b64encode(MP4).decode()
BODIES = [
    ({"video": {"url": LINK}}, (RemoteFile(LINK),)),
    ({"video": {"url": LINK}, "output": "https://other.example/"}, (RemoteFile(LINK),)),
    ({"video": {}, "output": LINK}, (RemoteFile(LINK),)),
    ({"output": LINK}, (RemoteFile(LINK),)),
    ({"output": [LINK, LINK]}, (RemoteFile(LINK), RemoteFile(LINK))),
    ({"output": {"url": LINK}}, (RemoteFile(LINK),)),
    ({"images": [{"url": LINK}, "text", None, {"url": 7}]}, (RemoteFile(LINK),)),
    ({"image": ENCODED}, (InlineFile(MP4),)),
    ({"image": f"data:video/mp4;base64,{ENCODED}"}, (InlineFile(MP4),)),
    ({"image": base64.b64encode(b"plain text").decode()}, ()),
    ({"output": ""}, ()),
    ({"output": []}, ()),
    ({"output": [[[LINK]]]}, ()),
    ({"output": "done", "error": None}, ()),
    ({"result": LINK}, ()),
]


@pytest.mark.parametrize(("body", "files"), BODIES)
def test_results_are_found_in_the_documented_places_only(body: dict[str, Any], files: tuple[Any, ...]) -> None:
    """A media object, a link, a list or inline base64 that is media; an unknown field is not guessed."""
    assert reading.result_files(body) == files


@pytest.mark.parametrize(
    ("data", "media"),
    [
        (MP4, True),
        (b"GIF89a", True),
        (b"RIFF\x00\x00\x00\x00WEBP", True),
        (b"\x1a\x45\xdf\xa3", True),
        (b"\xff\xd8\xff\xe0", True),
        (b"\x89PNG\r\n\x1a\n", True),
        (b"RIFF\x00\x00\x00\x00WAVE", False),
        (b"<html>", False),
        (b"{}", False),
        (b"", False),
    ],
)
def test_media_is_known_by_its_first_bytes(data: bytes, media: bool) -> None:
    """ftyp, GIF8, RIFF, EBML, JPEG and PNG."""
    assert reading.looks_like_media(data) is media


def test_a_detail_has_no_key_in_it() -> None:
    """A vendor that echoes the key does not put it into our records."""
    assert reading.printable("key SG_0123456789abcdef is invalid\n\x1b[31m") == "key [key] is invalid  [31m"
