"""Whether the real pipelines can be tested here."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def test_the_extras_are_installed() -> None:
    """Where they are not, this line stands for all the tests of this folder."""
    missing = [name for name in ("torch", "diffusers", "ray") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: the tests of the real pipelines run by `make test-gpu`")
