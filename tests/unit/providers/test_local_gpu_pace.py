"""What a worker's status says of its pace: by shape, of any shape from an older worker, and nothing from nonsense."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from providers.local_gpu.protocol import SHAPES_MAX, read_status
from providers.pace import Measured, Pace, Shape
from providers.transport import Reply

STATUS: dict[str, Any] = {
    "protocol": 1,
    "models": ["svd", "svd-xt"],
    "queue_depth": 0,
    "queue_max": 8,
    "running": 0,
    "replicas": 1,
    "seconds_per_step": {"svd": 0.5, "svd-xt": None},
    "seconds_fixed": {"svd": 2.0, "svd-xt": None},
    "draining": False,
}
ROW = {"frames": 14, "pixels": 589_824, "passes": 2, "seconds_per_step": 0.3, "seconds_fixed": 3.0}
MEASURED = Measured(0.3, 3.0, Shape(14, 589_824, 2))


def paces(**changes: Any) -> dict[str, Pace]:
    """The paces that are read from a status."""
    body = json.dumps({**STATUS, **changes}).encode()
    status = read_status(Reply(200, httpx.Headers(), body))
    assert status is not None
    return dict(status.paces)


def test_shapes_are_read_in_their_order_and_go_before_what_is_true_of_any() -> None:
    """The newest first; a model that measured nothing has no pace."""
    other = {**ROW, "frames": 25, "seconds_per_step": 0.6}
    told = paces(pace={"svd": [ROW, other], "svd-xt": []})
    assert told == {"svd": (MEASURED, Measured(0.6, 3.0, Shape(25, 589_824, 2)))}


def test_an_older_worker_tells_one_pace_for_every_shape() -> None:
    """Its two numbers are taken as they are."""
    assert paces() == {"svd": (Measured(0.5, 2.0),)}
    assert paces(pace={"svd": []}, seconds_fixed=None) == {"svd": (Measured(0.5, 0.0),)}


@pytest.mark.parametrize(
    "change",
    [{"frames": 0}, {"pixels": -1}, {"passes": None}, {"pixels": 10**12}, {"seconds_per_step": "1"},
     {"seconds_fixed": -0.5}, {"seconds_per_step": float("nan")}, {"frames": True}],
)  # fmt: skip
def test_a_row_that_cannot_be_is_left_out(change: dict[str, Any]) -> None:
    """The others count; nothing is divided by nothing."""
    assert paces(pace={"svd": [{**ROW, **change}, ROW]}) == {"svd": (MEASURED,)}
    assert paces(pace={"svd": [{**ROW, **change}]}) == {"svd": (Measured(0.5, 2.0),)}


@pytest.mark.parametrize("pace", [None, [], "fast", {"svd": "fast"}, {"svd": [None, 7, []]}])
def test_a_pace_of_another_form_is_none(pace: Any) -> None:
    """What is true of any shape still counts."""
    assert paces(pace=pace) == {"svd": (Measured(0.5, 2.0),)}


def test_more_shapes_than_a_worker_keeps_are_not_read() -> None:
    """A status is no place to store things."""
    assert len(paces(pace={"svd": [ROW] * (SHAPES_MAX + 9)})["svd"]) == SHAPES_MAX
