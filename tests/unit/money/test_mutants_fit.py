"""The known faults still fit the code that they change: a fault that fits nowhere would never be looked for again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_fault_fits_the_code_once_and_names_tests_that_exist(mutant: Mutant) -> None:
    """`make mutants` runs each fault; here only its place is checked, so that it cannot go stale unseen."""
    source = (ROOT / Path(*mutant.module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
    assert source.count(mutant.good) == 1
    assert all((ROOT / test).is_file() for test in mutant.tests)


def test_faults_have_names_of_their_own() -> None:
    """Each is caught by its name."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 12
