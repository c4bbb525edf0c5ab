"""Every seed of the fuzzing, and everything it has found, goes through the readers in every run."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import pytest

from tests.fuzz.targets import TARGETS

# What fuzzing found, in base64: each broke its reader once.
FOUND: Mapping[str, Sequence[str]] = {
    "configuration": ["PyB7YTogYn0KOiBj"],
    "retry-after": ["jVdlZCwgMTAyMDI2MCBPY3QgMjAyNiAwNzIyNjowMjAyNjAyMjYwMjYwIE9jdCAyMDI2IDA3MjI2IA=="],
}


@pytest.mark.filterwarnings("ignore")  # as a server has them: no errors
@pytest.mark.parametrize("name", TARGETS)
def test_what_fuzzing_begins_with_is_read_or_refused(name: str) -> None:
    """Each reader fails in its documented way or not at all; cut in half and turned over, too."""
    target = TARGETS[name]
    seeds = target.seeds()
    assert len(seeds) >= 4
    for seed in seeds:
        target.read(seed)
        target.read(seed[: len(seed) // 2])
        target.read(seed[:20] + seed[20:][::-1])


@pytest.mark.parametrize("name", FOUND)
def test_what_fuzzing_found_is_mended(name: str) -> None:
    """A finding is read like everything else now."""
    for text in FOUND[name]:
        TARGETS[name].read(base64.b64decode(text))
