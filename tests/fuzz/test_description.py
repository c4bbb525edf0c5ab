"""Schemathesis finds nothing, in a small run and in the 20,000 calls of `make fuzz`; and it finds what is wrong."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from tests.fuzz.description import CHECKS, configuration, fuzz, gateway


def test_the_gateway_is_as_its_description_says(tmp_path: Path) -> None:
    """Random requests and walks along the links: no fault, no undescribed reply, no open door, no lax reader."""
    with gateway(tmp_path) as (running, document):  # one for both halves: it takes seconds to start
        config = configuration(running, examples=5, seed=1, phases=("examples", "fuzzing", "stateful"))
        verdict = fuzz(document, config)
        assert verdict.found == [], verdict
        assert verdict.calls >= 100, verdict
        assert set(verdict.checked) == set(CHECKS)
        assert {"200", "202", "401", "404", "422"} <= set(verdict.statuses), verdict
        lie = deepcopy(document)
        lie["components"]["schemas"]["Health"]["properties"]["status"] = {"const": "fine"}
        lie["paths"]["/readyz"]["get"]["security"] = [{"bearer": []}]
        del lie["paths"]["/routes"]["get"]["responses"]["200"]
        config = configuration(running, examples=1, seed=1, phases=("fuzzing",))
        found = "\n".join(fuzz(lie, config, "^/(healthz|readyz|routes)$").found)
        assert "GET /healthz: Response violates schema" in found
        assert "GET /readyz: API accepts" in found
        assert "GET /routes: Undocumented" in found
