"""The bench of a card, without one: what it keeps of a run in which something fails, and when it is content."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import gpu_svd
from bench.gpu_svd import OURS, STOCK, Report, Row, Setup
from tests.support.tiny_renders import order


def measured(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *, seconds: dict[str, float | Exception], within_s: float = 1000.0
) -> tuple[int, dict[str, Any]]:
    """The status of a run on a card whose rows take so long or fail so, and the figures that were kept."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(gpu_svd, "_tidy", lambda: None)  # which takes seconds, and nothing was loaded
    monkeypatch.setattr(gpu_svd, "_flops", lambda _setup, constant: (10**14, 2 * 10**14))

    def row(_setup: Setup, name: str, *_: Any, count: int = 1) -> Row:
        told = seconds.get(name, 9.0)
        if isinstance(told, Exception):
            raise told
        return Row(name, told, 10**10, clips=count)

    monkeypatch.setattr(gpu_svd, "_stock", row)
    monkeypatch.setattr(gpu_svd, "_ours", row)
    setup = Setup(folder, "cuda", order(num_inference_steps=25), 1, time.perf_counter() + within_s)
    status = gpu_svd._measure(setup, Report(setup, folder / "figures.json"))
    return status, json.loads((folder / "figures.json").read_text())


@pytest.mark.parametrize(("ours", "status"), [(5.9, 0), (6.1, 1)])
def test_it_is_content_with_less_than_the_target(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours: float, status: int
) -> None:
    """Ours in stock's seconds, whatever the single techniques came to; a row of two clips is told by the clip."""
    found, kept = measured(monkeypatch, tmp_path, seconds={STOCK: 10.0, OURS: ours})
    assert found == status
    rows = {row["name"]: row for row in kept["rows"]}
    assert rows[OURS]["of_stock"] == pytest.approx(ours / 10)
    assert rows["  two clips in one call of stock"]["of_stock"] == pytest.approx(0.45)
    assert kept["floor_s"] == pytest.approx((25 * 1e14 + 2e14) / 0.989e15)


def test_a_row_that_fails_ends_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Memory, a compiler that is not there, a kernel that a card lacks: told in the row, and there is no ratio."""
    troubles: dict[str, float | Exception] = {
        STOCK: torch.OutOfMemoryError("CUDA out of memory"),
        OURS: RuntimeError("Failed to find C compiler.\nPlease specify via CC"),
    }
    status, kept = measured(monkeypatch, tmp_path, seconds=troubles)
    assert status == 1
    stock, ours, *others = kept["rows"]
    assert stock["trouble"] == "the card's memory does not suffice"
    assert ours["trouble"] == "RuntimeError: Failed to find C compiler. Please specify via CC"
    assert [row["seconds"] for row in others] == [9.0] * 7
    assert {row["of_stock"] for row in kept["rows"]} == {None}


def test_what_counts_is_measured_even_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The rest is left out, and the verdict stands."""
    status, kept = measured(monkeypatch, tmp_path, seconds={STOCK: 10.0, OURS: 5.0}, within_s=-1.0)
    assert status == 0
    assert [row["name"] for row in kept["rows"]] == [STOCK, OURS]


def test_without_a_card_it_says_which_pytorch_it_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A build for CPUs on a machine with a card is not the card's fault."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(sys, "argv", ["gpu_svd.py"])
    assert gpu_svd.main() == 2
    assert "is a build for CPUs alone" in capsys.readouterr().out


def test_each_row_is_a_real_clip(models: Path) -> None:
    """On the CPU, of the tiny model: it takes time, and nothing was compiled for it."""
    small = order("svd-xt", num_inference_steps=3)
    setup = Setup(models / "svd-xt", "cpu", small, 1, 0.0)
    assert (setup.warming.steps, setup.warming.shape) == (gpu_svd.WARM_UP_STEPS, small.shape)
    row = gpu_svd._ours(setup, "split", {**gpu_svd.OFF, "guidance": "split"}, 1)
    assert row.seconds is not None
    assert row.seconds > 0
    assert row.compile_s == 0
