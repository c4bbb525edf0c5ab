"""No alarm without a test that causes its condition on a running gateway."""

from __future__ import annotations

import re

from gateway.telemetry.alerts import ALERTS
from tests.unit.tidy import ROOT

CAUSES = re.compile(r"^@causes\(([^)]*)\)\n(?:async )?def test_", re.MULTILINE)


def test_every_alarm_is_caused_by_a_test() -> None:
    """What tests say of themselves, read from their source: nothing has to be run or imported for it."""
    places = (ROOT / "tests" / "alarms", ROOT / "tests" / "e2e")
    texts = [path.read_text(encoding="utf-8") for place in places for path in place.glob("test_*.py")]
    caused = {name for text in texts for said in CAUSES.findall(text) for name in re.findall(r'"(\w+)"', said)}
    assert caused == {alert.name for alert in ALERTS}
