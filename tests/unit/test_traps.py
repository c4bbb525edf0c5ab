"""The forty traps of the vendors' wire (WIRE 7): each has tests named after it, or a sentence why it cannot bite."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
NAMED = re.compile(r"^(?:async )?def (test_trap_(\d\d)_\w+)\(", re.MULTILINE)
SEGMIND = "contract/segmind/test_traps"
WORDINGS = "contract/segmind/test_wordings"
MODELSLAB = "contract/modelslab/test_traps"
MEDIA = "e2e/test_inputs_outputs"
ORDERED = "e2e/test_not_as_ordered"
WEBHOOKS = "e2e/test_vendor_webhooks"
CAMERA = "unit/providers/test_rendering"
FIT = "unit/policies/test_fit"
READING = "unit/test_normalise"


@dataclass(frozen=True)
class Trap:
    """What the trap is, the files that hold tests named after it, and what of it cannot bite, and why."""

    what: str
    tested_in: tuple[str, ...] = ()
    cannot_bite: str = ""


TRAPS: Mapping[int, Trap] = {
    1: Trap("motion is a number on one route and a camera word on another", (SEGMIND,)),
    2: Trap("the motion bucket has another range on every route", (SEGMIND, MODELSLAB)),
    3: Trap("three names and three forms of the picture", (SEGMIND, MODELSLAB, MEDIA), "v7, an array, is not called"),
    4: Trap("frames as text, integer or fixed set", (SEGMIND, MODELSLAB)),
    5: Trap("defaults of the noise differ by ten times", (SEGMIND, MODELSLAB)),
    6: Trap("fps has three ranges, a price and two meanings", (SEGMIND, MODELSLAB)),
    7: Trap("a seed is random, fixed, large, text, or not taken at all", (SEGMIND, MODELSLAB, ORDERED)),
    8: Trap("base64 is true by default on one page and false on another", (SEGMIND,)),
    9: Trap("a video is announced as a picture", (SEGMIND, MEDIA)),
    10: Trap("the v2 page shows the v1 address", (SEGMIND,)),
    11: Trap("one status means several things, and one page is HTML", (WORDINGS, MODELSLAB)),
    12: Trap("FAILED comes with HTTP 422", (SEGMIND,)),
    13: Trap("after an hour a finished job looks as if it had never been", (SEGMIND, MEDIA)),
    14: Trap("an invalid body is accepted and fails later", (SEGMIND, MODELSLAB)),
    15: Trap("no submit is idempotent", (SEGMIND, MODELSLAB)),
    16: Trap(
        "the vendor's own client sends the key wherever a reply points",
        (SEGMIND,),
        "its 30 s timeout and its rule for addresses are its own: vidgate does not use that client",
    ),
    17: Trap("the wait is a header's time at one vendor and the body's seconds at the other", (SEGMIND, MODELSLAB)),
    18: Trap("messege, text for lists, floats for integers", (MODELSLAB, MEDIA)),
    19: Trap("links to come look like results", (MODELSLAB,)),
    20: Trap("another model than the one asked for runs", (MODELSLAB, ORDERED)),
    21: Trap("documents disagree about the models and their limits", (MODELSLAB,)),
    22: Trap("a GIF where a video is wanted", (SEGMIND, MODELSLAB, MEDIA)),
    23: Trap("512 pixels at most for a model made for 1024 by 576", (MODELSLAB, MEDIA)),
    24: Trap("guidance is one number in the client and two at the vendor", (MODELSLAB,)),
    25: Trap("bodies on GET, and methods that differ between page and schema", (MODELSLAB,)),
    26: Trap("webhooks are unsigned, and ids change their type", (MODELSLAB, WEBHOOKS)),
    27: Trap("booleans come back as words", (MODELSLAB,)),
    28: Trap("required fields with defaults, and a chunk size called decoding time", (SEGMIND,)),
    29: Trap("impossible defaults of the picture model", (SEGMIND,)),
    30: Trap("free-credits has a hyphen, and credits are fractions of dollars", (SEGMIND,)),
    31: Trap("two tables of rates", (SEGMIND,)),
    32: Trap("a bearer token is advertised and refused", (SEGMIND,)),
    33: Trap("a model is retired at any time", (SEGMIND, MODELSLAB)),
    34: Trap("a moderation block has no code", (WORDINGS, MODELSLAB, ORDERED)),
    35: Trap("no formula of the price, and one vendor tells no cost", (SEGMIND, MODELSLAB)),
    36: Trap("the client's own defaults break the vendor's limits", (MODELSLAB,)),
    37: Trap("result links are public and need no key", (SEGMIND, MODELSLAB)),
    38: Trap("pan is a slide, clockwise is the camera's, and the ramp ends before its end", (CAMERA,)),
    39: Trap("the model's own code checks no ranges and rounds sizes", (CAMERA, FIT, READING)),
    40: Trap(
        "an unknown state is waited on for ever",
        (SEGMIND, MODELSLAB, ORDERED),
        "fal's and Replicate's own words for failure: vidgate has no route there",
    ),
}


@cache
def named() -> dict[tuple[int, str], list[str]]:
    """The tests named after a trap, by trap and file."""
    found: dict[tuple[int, str], list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        where = path.relative_to(TESTS).with_suffix("").as_posix()
        for name, number in NAMED.findall(path.read_text()):
            found.setdefault((int(number), where), []).append(name)
    return found


def test_the_table_has_every_trap() -> None:
    """Forty traps are written down, and forty are here."""
    assert sorted(TRAPS) == list(range(1, 41))


@pytest.mark.parametrize("number", TRAPS)
def test_each_trap_has_tests_named_after_it_or_cannot_bite(number: int) -> None:
    """Every file that the table names for a trap holds a test named after it; without a file there is a reason."""
    trap = TRAPS[number]
    assert trap.tested_in or len(trap.cannot_bite.split()) > 3
    missing = [where for where in trap.tested_in if (number, where) not in named()]
    assert missing == [], f"trap {number} ({trap.what}) has no test named test_trap_{number:02}_… in {missing}"


def test_every_test_named_after_a_trap_is_in_the_table() -> None:
    """A test that names a trap in a file which the table does not know would be missed when it goes."""
    known = {(number, where) for number, trap in TRAPS.items() for where in trap.tested_in}
    assert set(named()) - known == set()
