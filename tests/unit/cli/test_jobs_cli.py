"""The command for parked jobs, run as a person runs it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from gateway.cli.exit_codes import ExitCode
from tests.unit.cli.test_money_cli import Run, database, template, vidgate

__all__ = ["database", "template", "vidgate"]

ROW = """
INSERT INTO jobs (id, team_id, key_id, media, status, created_at, deadline_at, give_up_at, hold_id, held_micros,
                  request, parameters, input, plan, replans, route, receipt, due_at, crashes, parked_at)
SELECT 'job_broken', team_id, id, 'video', 'queued', 1.0, 2.0, 3.0, 'hold_broken', 165900,
       '{}', '{}', '{}', '{}', '[]', 'segmind/svd', '[]', 1.0, 10, 86400.0 FROM keys LIMIT 1
"""


def test_parked_jobs_are_listed_and_sent_back_to_work_once(vidgate: Run, database: Path) -> None:
    """The list says what is held and since when; a job that is not parked cannot be sent back."""
    assert "nothing" in vidgate("jobs", "parked")[1]
    with sqlite3.connect(database) as connection:
        connection.execute(ROW)
    (row,) = json.loads(vidgate("jobs", "parked", "--json")[1])
    assert row == {
        "job": "job_broken",
        "team": "film",
        "route": "segmind/svd",
        "status": "queued",
        "crashes": 10,
        "parked": "1970-01-02 00:00",
        "held_micros": 165_900,
    }
    assert vidgate("jobs", "requeue", "job_broken")[0] == ExitCode.OK
    assert json.loads(vidgate("jobs", "parked", "--json")[1]) == []
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT crashes, parked_at, due_at > 1e9 FROM jobs").fetchall() == [(0, None, 1)]
    code, _, err = vidgate("jobs", "requeue", "job_broken")
    assert (code, "no parked job" in err) == (ExitCode.USAGE, True)
