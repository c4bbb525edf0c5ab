"""`Accept` as RFC 9110 has it: weights, exactness, and nonsense that is passed over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.negotiation import acceptable

OFFERS = ("application/json", "video/mp4", "image/gif")


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("", OFFERS),
        ("*/*", OFFERS),
        ("video/mp4", ["video/mp4"]),
        ("VIDEO/MP4", ["video/mp4"]),
        ("video/mp4;q=0.5, application/json;q=0.4", ["video/mp4", "application/json"]),
        ("video/mp4;q=0.4, application/json;q=0.5", ["application/json", "video/mp4"]),
        ("video/*, */*;q=0.1", ["video/mp4", "application/json", "image/gif"]),
        ("*/*, video/mp4;q=0", ["application/json", "image/gif"]),
        ("image/*;q=0.9, image/gif;q=0", []),
        ("video/mp4;q=0", []),
        ("text/html", []),
        ("text/html, video/mp4;q=0.001", ["video/mp4"]),
        ("video/mp4; codecs=avc1 ; q=0.3, image/gif", ["image/gif", "video/mp4"]),
        ("video/mp4;q=2", OFFERS),
        ("video/mp4;q=x, image/gif", ["image/gif"]),
        ("nonsense", OFFERS),
        (",;,/,//", OFFERS),
        ("application/json, video/mp4", ["application/json", "video/mp4"]),
    ],
)
def test_the_best_of_what_can_be_had_comes_first(header: str, taken: list[str]) -> None:
    """The most exact range decides an offer's weight; among equals the order of the offers."""
    assert acceptable(header, OFFERS) == list(taken)


@given(st.text(max_size=200) | st.lists(st.sampled_from(["*/*", "video/*", ";q=0", ";q=1", ",", "a/b"])).map("".join))
def test_no_header_breaks_it(header: str) -> None:
    """Whatever is sent, the answer is some of the offers, each once."""
    taken = acceptable(header, OFFERS)
    assert set(taken) <= set(OFFERS)
    assert len(taken) == len(set(taken))
