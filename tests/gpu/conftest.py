"""Tests of what computes: the real pipelines with tiny random models, on the CPU. `make test-gpu` runs them.

They need the extras [local-gpu] and [ray], which the developers' environment does not have: without them each file is
skipped with that reason.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

# Before anything imports PyTorch: sums of several threads differ in their last bits.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny models as they would be kept: `svd`, `svd-xt` and `ssd-1b`."""
    from providers.local_gpu.worker.tiny import build_tiny

    folder = tmp_path_factory.mktemp("models")
    for name in ("svd", "svd-xt", "ssd-1b"):
        build_tiny(name, folder / name)
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """What the large libraries warn of among themselves is theirs; everything else is an error here too."""
    for kind in ("DeprecationWarning", "FutureWarning"):
        config.addinivalue_line("filterwarnings", f"ignore::{kind}")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without the extra only the file that says so is collected."""
    if (
        find_spec("torch") is None
        and collection_path.name.startswith("test_")
        and "installed" not in collection_path.name
    ):
        return True
    return None
