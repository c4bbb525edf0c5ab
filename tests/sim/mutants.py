"""Faults that the simulation must find: each by its name, as a change of one place in the code.

`python -m tests.sim --seeds 1-60 --stop --mutant NAME` runs with one of them; `test_mutants.py` runs them all.
"""

from __future__ import annotations

from tests.mutants.__main__ import _install
from tests.mutants.catalogue import Mutant

MUTANTS = (
    Mutant(
        "submits-again-without-evidence",
        "gateway.engine",
        '            return "none"\n        found = await',
        '            return "not_accepted"\n        found = await',
    ),
    Mutant(
        "a-silent-vendor-has-failed",
        "gateway.engine",
        "                self._await_news(run, render, outcome.retry_after_s or 0.0)\n",
        "                silent = Failed(FailureKind.TIMEOUT, outcome.detail)\n"
        "                await self._news(run, await run.rouse(self._parts.store), silent)\n",
    ),
    Mutant(
        "no-fence",
        "gateway.store.jobs",
        "jobs.c.fence == job.fence, jobs.c.status.in_(ACTIVE))\n    if connection.execute(statement.values(fence",
        "jobs.c.status.in_(ACTIVE))\n    if connection.execute(statement.values(fence",
    ),
    Mutant(
        "captured-twice",
        "gateway.money.ledger",
        '        ("cost", team, provider, covered_micros),\n',
        '        ("cost", team, provider, covered_micros),\n        ("again", team, provider, covered_micros),\n',
    ),
    Mutant(
        "token-not-committed",
        "gateway.journal",
        '            "token": outcome.token,\n',
        '            "token": None,\n',
    ),
    Mutant(
        "event-dropped",
        "gateway.settlement",
        "    events.job_ended(connection, ended)\n    events.emit_usage(",
        "    events.emit_usage(",
    ),
    Mutant(
        "key-forgotten-after-a-minute",
        "gateway.money.idempotency",
        "LIFETIME_S = 24 * 3600.0\n",
        "LIFETIME_S = 30.0\n",
    ),
    Mutant(
        "retry-after-ignored",
        "policies.retry",
        "        delay_s += max(0.0, retry_after_s)\n",
        "        delay_s += 0.0\n",
    ),
    Mutant(
        "hold-kept-at-a-failure",
        "gateway.money.ledger",
        '    settled = _close(connection, hold_id, "released")\n    if settled is None:\n',
        '    settled = _Closed("", "", "", 0)\n    if True:\n',
    ),
    Mutant(
        "suspense-forgotten",
        "gateway.settlement",
        "    if end.suspected:\n        suspect_charge(connection, job, attempt)\n",
        "",
    ),
)


def install(name: str) -> None:
    """Put a fault into the code, before it is imported. Raises SystemExit for a name that is not listed."""
    chosen = {mutant.name: mutant for mutant in MUTANTS}.get(name)
    if chosen is None:
        raise SystemExit(f"there is no mutant {name!r}; there are: {', '.join(mutant.name for mutant in MUTANTS)}")
    _install(chosen)
