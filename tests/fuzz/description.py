"""Schemathesis over the whole description of the API: a real gateway, real HTTP, the keys of two teams, stateful links.

    python -m tests.fuzz.description --calls 20000 --seed 1

prints the number of calls, every finding with the command that repeats it, and the seconds; the status is that of a
test. A call is one that Schemathesis made
and held against the description; the second calls that some checks make are not counted.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import schemathesis
from jsonschema import Draft202012Validator
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key
from gateway.scopes import Scope
from tests.support.pictures import picture_base64
from tests.support.processes import Stand, database, stand

# What every reply is held against. The two that are not here would say nothing of the gateway: whether a request is
# accepted that its schema allows depends on the picture and on the routes, and whose object is whose is the question
# of tests/api/test_tenancy.py, which asks it of every address.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
    "ensure_resource_availability",
)
REQUESTS = {"video": "VideoRequest", "image": "ImageRequest"}
GENERATES = re.compile(r"^/generate/(video|image)(/quote)?$")
SECTIONS: Mapping[str, Any] = {
    "server": {"wait_s_max": 0.3},
    "polling": {"delay_min_s": 0.02, "delay_max_s": 0.1},
}
# The ids of the run's own key and team.
spared: set[str] = set()
ROUNDS_MAX = 1000
SWITCHES = {"speed": 200}


@dataclass
class Verdict:
    """What came of a run."""

    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many requests were made."""
        return sum(self.statuses.values())

    @property
    def found(self) -> list[str]:
        """Everything that is wrong, in words."""
        return [f"{name}\n{said}" for name, said in sorted(self.findings.items())] + self.errors

    @property
    def figures(self) -> str:
        """The run in one line."""
        return f"{self.calls} calls, {len(self.found)} findings, {self.seconds:.0f} s"

    def add(self, other: Verdict) -> None:
        """Count another run in."""
        self.seconds += other.seconds
        self.statuses += other.statuses
        self.checked += other.checked
        self.findings |= other.findings
        self.errors += other.errors

    def __str__(self) -> str:
        checks = f"checks: {dict(sorted(self.checked.items()))}"
        statuses = f"statuses: {dict(sorted(self.statuses.items()))}"
        return "\n\n".join([*self.found, checks, statuses, self.figures])


PHASES = ("examples", "coverage", "fuzzing", "stateful")


def configuration(running: Stand, *, examples: int, seed: int, phases: Sequence[str] = PHASES) -> SchemathesisConfig:
    """Schemathesis with the checks of `CHECKS` on, and so many examples for each operation."""
    key = running.client.headers["authorization"].removeprefix("Bearer ")
    return SchemathesisConfig.from_dict(
        {
            "base-url": str(running.client.base_url),
            "seed": seed,
            "continue-on-failure": True,
            "request-timeout": 20,
            "warnings": False,
            "auth": {"openapi": {"bearer": {"bearer": key}}},
            "checks": {"enabled": False, **{name: {"enabled": True} for name in CHECKS}},
            "generation": {"max-examples": examples, "database": "none", "no-shrink": True},
            "phases": {name: {"enabled": name in phases} for name in PHASES},
        }
    )


def fuzz(document: Mapping[str, Any], config: SchemathesisConfig, path: str = "") -> Verdict:
    """Hold a gateway against a description of it, where addresses match the pattern."""
    schema = schemathesis.openapi.from_dict(dict(document), config=config).include(path_regex=path or ".")
    schema.hook(_to_the_point(document))
    schema.hook(filter_case)
    verdict, begun = Verdict(), time.monotonic()
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _note(verdict, event.recorder)
        elif isinstance(event, events.NonFatalError):
            verdict.errors.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    verdict.seconds = time.monotonic() - begun
    return verdict


def _note(verdict: Verdict, recorder: Any) -> None:
    for interaction in recorder.interactions.values():
        verdict.statuses[str(interaction.response.status_code) if interaction.response else "none"] += 1
    for nodes in recorder.checks.values():
        for node in nodes:
            verdict.checked[node.name] += 1
            if node.status is Status.FAILURE:
                said = node.failure_info
                title = f"{said.failure.operation}: {said.failure.title}\n{said.failure.message[:300]}"
                verdict.findings.setdefault(title, said.code_sample)


def filter_case(_context: Any, case: Any) -> bool:
    """Whether to make a call: one that revokes its own key, or deletes its own team, would end the run as refused."""
    return case.method == "GET" or not spared & {str(value) for value in (case.path_parameters or {}).values()}


def _to_the_point(document: Mapping[str, Any]) -> Any:
    """A hook that leaves of a request what is wrong with it, and gives it a real picture.

    Without it nearly everything would be refused for its picture, or because every name of a parameter is in it at
    once, whatever else is wrong. Of well-formed requests every other one asks for little, so that some become jobs.
    """
    picture, turns = picture_base64(), iter(range(10**9))

    def map_case(_context: Any, case: Any) -> Any:
        asked = GENERATES.match(case.path)
        if asked is None or not isinstance(case.body, dict):
            return case
        if case.meta is not None and case.meta.generation.mode.value == "positive":
            turn = next(turns)
            case.body = {"image": picture, "fit": "nearest"} if turn % 2 == 0 else {**case.body, "image": picture}
            if turn % 4 == 0:
                case.headers.pop("Idempotency-Key", None)
            return case
        wrong = {name: value for name, value in case.body.items() if not is_valid(asked.group(1), name, value)}
        if wrong:
            case.body = wrong if "image" in wrong else {"image": picture, **wrong}
        return case

    def is_valid(media: str, name: str, value: Any) -> bool:
        known = document["components"]["schemas"][REQUESTS[media]]["properties"]
        reference = {"$ref": f"#/components/schemas/{REQUESTS[media]}/properties/{name}"}
        return name in known and Draft202012Validator({**document, **reference}).is_valid(value)

    return map_case


def _administrator(running: Stand) -> tuple[str, str]:
    """A key of the stand's team that may do everything: its id and its secret."""
    new = NewKey("reel", "everything", SystemClock().now(), scopes=frozenset(Scope))
    with database(running.store_url) as transact:
        key_id, _, secret = transact(create_key, Ids(SystemClock()), new)
    return str(key_id), str(secret)


@contextmanager
def gateway(folder: Path) -> Iterator[tuple[Stand, dict[str, Any]]]:
    """A gateway over a simulated vendor, with finished jobs in it, and its description; the key has every scope."""
    with stand(folder, switches=SWITCHES, sections=SECTIONS) as running:
        key_id, secret = _administrator(running)
        running.client.headers["authorization"] = f"Bearer {secret}"
        running.start()
        spared.update((key_id, running.team_id))
        for _ in range(3):
            response = running.client.post("/generate/video", json={"image": picture_base64(), "num_frames": 14})
            assert response.status_code == 202, response.text
            running.ended(response.json()["id"])
        yield running, running.client.get("/openapi.json").json()


def main(arguments: Sequence[str]) -> int:
    """Run until so many calls were made, with another seed each round."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--examples", type=int, default=250, help="for each operation and phase of one round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--path", default="", help="only the addresses that match this pattern")
    asked = parser.parse_args(arguments)
    whole = Verdict()
    with TemporaryDirectory() as folder, gateway(Path(folder)) as (running, document):
        for seed in range(asked.seed, asked.seed + ROUNDS_MAX):
            config = configuration(running, examples=asked.examples, seed=seed)
            whole.add(fuzz(document, config, asked.path))
            print("\n\n".join([*whole.found, f"seed {seed}: {whole.figures}"]), flush=True)
            if whole.calls >= asked.calls:
                break
        faults = running.log().count("request.fault")
    print(whole)
    print(f"{faults} faults in the gateway's log")
    return 1 if whole.found or faults else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
