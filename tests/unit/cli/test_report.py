"""What a finished job looks like on the terminal: everything is there, and nothing is read as markup."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from gateway.cli import report
from tests.unit.cli.jobs import RANKED, attempt, file, job


def shown(told: dict[str, Any], width: int = 120) -> str:
    """A job as it is told on a terminal of this width."""
    out = io.StringIO()
    report.show_job(Console(file=out, width=width, highlight=False), told)
    return out.getvalue()


def test_the_plan_names_every_route_with_its_reasons() -> None:
    """The ranked ones with their price, the refused ones with why; routes refused alike share a row."""
    text = shown(job())
    assert "$0.18249" in text
    assert "$0.1659, p50 30 s" in text
    for route in ("acme/svd", "acme/camera", "acme/camera-sync", "other/svd"):
        assert route in text
    assert text.count("this route has no seed") == 1
    assert "breaker open for another 12 s" in text


def test_the_receipt_says_what_was_sent_and_why() -> None:
    """By the vendor's own name where one travelled, and with the reason where there is one."""
    lines = shown(job()).splitlines()
    (frames,) = [line for line in lines if line.strip().startswith("num_frames")]
    assert "frames = 25" in frames
    assert "converted  sent as text" in frames
    (prompt,) = [line for line in lines if line.strip().startswith("enhance_prompt")]
    assert "enhance = true" in prompt
    (output,) = [line for line in lines if line.strip().startswith("output ")]
    assert "None" not in output


def test_attempts_show_their_events_with_the_time_since_they_began() -> None:
    """The retry can be seen, in order; text of a vendor is not read as markup."""
    text = shown(job())
    assert "2 submits, cost $0.1659 (reported), seed 42" in text
    assert "0.2 s  in doubt  HTTP 502: [maybe]" in text
    assert "65.5 s  delivered" in text


def test_a_failed_attempt_says_why() -> None:
    """With the kind, for machines and people alike."""
    failed = attempt(state="failed", failure={"kind": "render_failed", "detail": "out of memory"}, cost_micros=None)
    assert "failed: render_failed: out of memory" in shown(job(attempts=[failed, attempt(number=2)]))


def test_the_bill_has_every_amount_exactly() -> None:
    """Held, price, cost, margin, and where the cost is known from."""
    text = shown(job())
    for amount in ("$0.55", "$0.18249", "$0.1659", "$0.01659", "reported", "captured"):
        assert amount in text


def test_a_job_without_a_result_says_why() -> None:
    """The problem's own title and detail."""
    failed = job("failed", result=None, error={"title": "No route is left", "detail": "all were tried"})
    assert "no result: No route is left: all were tried" in shown(failed)


def test_a_job_that_has_only_begun_can_be_told() -> None:
    """No attempt, no receipt, no ranked route, nothing known of the bill."""
    bill = dict.fromkeys(("price_micros", "cost_micros", "margin_micros", "cost_source")) | {
        "status": "held",
        "held_micros": 1,
    }
    plan = {"objective": "default", "decided_at": "now", "ranked": [], "refused": []}
    text = shown(job("queued", attempts=[], receipt=None, result=None, bill=bill, plan=plan, route=None))
    assert "none yet" in text
    assert "held" in text


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_nothing_is_cut_off_at_any_usual_width(width: int) -> None:
    """Long values wrap; no ellipsis hides a value, and no line is wider than the terminal."""
    long = job(
        plan=job()["plan"] | {"ranked": [RANKED | {"route": "a-provider-with-a-name/and-a-model"}]},
        receipt=[
            {
                "parameter": "latent_interpolation_method",
                "asked": "slerp",
                "sent": "maintain_aspect_ratio_whatever_it_takes",
                "vendor_name": "resize_method_of_the_vendor",
                "outcome": "moved",
                "reason": "nearest",
            }
        ],
    )
    text = shown(long, width)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    assert "latent_interpolation_method" in text


def test_the_saved_file_is_told_with_its_facts_and_deviations() -> None:
    """Path, size, frames, rate, length, bytes, and what differs from the order."""
    out = io.StringIO()
    delivered = job(result={"files": [file(deviations=["24 frames, not 25"])]})
    Console(file=out, width=120).print(report.result_lines(delivered, ["out.mp4"]))
    text = out.getvalue()
    assert "out.mp4" in text
    assert "1024 x 576, 25 frames, 12 fps, 2.1 s, video/mp4, 486.5 kB" in text
    assert "differs from the order: 24 frames, not 25" in text


def test_a_still_has_no_rate() -> None:
    """Pictures have a size and nothing that moves."""
    still = file(media_type="image/png", num_frames=1, fps=None, duration_s=None)
    assert report.file_facts(still) == "1024 x 576, image/png, 486.5 kB"
