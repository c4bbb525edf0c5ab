"""The operator's path: simulators in one process, a configured gateway in another, keys made beside it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from gateway.cli.exit_codes import ExitCode
from tests.e2e.processes import end, first_json, running, vidgate, wait_for_line


@dataclass(frozen=True)
class Site:
    """A folder with a configuration that points at running simulators."""

    folder: Path
    simulators: Mapping[str, str]

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "vidgate.yaml"

    def configure(self, **sections: Any) -> None:
        """Write the configuration of a gateway whose vendors are the simulators."""
        providers = json.loads((self.folder / "sandbox.json").read_text())["providers"]
        whole = {
            "server": {"port": 0},
            "polling": {"delay_min_s": 0.1, "delay_max_s": 0.5},
            "store": {"url": f"sqlite:///{self.folder / 'vidgate.db'}"},
            "artifacts": {"url": str(self.folder / "artifacts")},
            "security": {"signing_secret": "${SIGNING_SECRET}"},
            "providers": providers,
            "outbound": {"allow_hosts": [url.removeprefix("http://") for url in self.simulators.values()]},
        }
        self.config.write_text(yaml.safe_dump(whole | sections), encoding="utf-8")

    @property
    def extra(self) -> dict[str, str]:
        """The environment that the configuration needs."""
        return {"SIGNING_SECRET": "a-signing-secret-of-enough-bytes", "VIDGATE_CONFIG": str(self.config)}

    def key(self, team: str = "film") -> str:
        """A fresh API key."""
        ended = vidgate("keys", "create", "--team", team, "--json", cwd=self.folder, extra=self.extra)
        assert ended.returncode == ExitCode.OK, ended.stderr
        return str(json.loads(ended.stdout)["key"])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with simulators a hundred times faster than life."""
    with running("sandbox", "--port-base", "0", "--speed", "100", "--json", cwd=tmp_path) as process:
        told = first_json(process, tmp_path / "sandbox.err")
        (tmp_path / "sandbox.json").write_text(json.dumps(told))
        Image.linear_gradient("L").resize((320, 192)).convert("RGB").save(tmp_path / "picture.png")
        yield Site(tmp_path, told["simulators"])
        assert end(process) == ExitCode.OK


def test_a_configured_gateway_serves_and_stops_with_zero(site: Site) -> None:
    """Sandbox, config check, serve, a key made while it runs, a video, and SIGTERM."""
    site.configure()
    assert vidgate("config", "check", cwd=site.folder, extra=site.extra).returncode == ExitCode.OK
    with running("serve", cwd=site.folder, extra=site.extra) as process:
        url = wait_for_line(site.folder / "serve.err", "vidgate serves at", process).split()[3]
        made = vidgate(
            *("generate", "picture.png", "--pin", "segmind/svd", "-o", "out.mp4", "--json"),
            cwd=site.folder,
            extra={"VIDGATE_URL": url, "VIDGATE_KEY": site.key()},
        )
        assert made.returncode == ExitCode.OK, made.stderr
        assert (site.folder / "out.mp4").stat().st_size > 0
        assert end(process, signal.SIGTERM) == ExitCode.OK
    log = (site.folder / "serve.err").read_text()
    assert "job.succeeded" in log
    assert "Traceback" not in log


def test_a_budget_that_does_not_cover_the_job_exits_with_four(site: Site) -> None:
    """A new team starts with the configured budget, and one micro-dollar covers nothing."""
    site.configure(money={"default_budget_micros": 1})
    with running("serve", cwd=site.folder, extra=site.extra) as process:
        url = wait_for_line(site.folder / "serve.err", "vidgate serves at", process).split()[3]
        extra = {"VIDGATE_URL": url, "VIDGATE_KEY": site.key()}
        ended = vidgate("generate", "picture.png", "--pin", "segmind/svd", cwd=site.folder, extra=extra)
        assert ended.returncode == ExitCode.NO_BUDGET, ended.stderr
        assert "budget" in ended.stderr


def test_a_second_server_on_the_same_database_is_refused(site: Site) -> None:
    """With a sentence, and without harm to the first."""
    site.configure()
    with running("serve", cwd=site.folder, extra=site.extra) as process:
        wait_for_line(site.folder / "serve.err", "vidgate serves at", process)
        second = vidgate("serve", cwd=site.folder, extra=site.extra)
        assert second.returncode == ExitCode.USAGE
        assert "Traceback" not in second.stderr
        assert process.poll() is None


def test_a_gateway_that_is_killed_finishes_the_same_job_when_it_is_started_again(site: Site) -> None:
    """SIGKILL while the vendor renders; the next process takes the job up, and the vendor counts one submit."""
    site.configure()
    pace = ("sandbox", "set", "segmind", "--url", site.simulators["segmind"])
    assert vidgate(*pace, "speed=4", cwd=site.folder).returncode == ExitCode.OK
    with running("serve", cwd=site.folder, extra=site.extra) as process:
        url = wait_for_line(site.folder / "serve.err", "vidgate serves at", process).split()[3]
        client = {"VIDGATE_URL": url, "VIDGATE_KEY": site.key()}
        wanted = ("generate", "picture.png", "--pin", "segmind/svd", "--timeout", "0", "--json")
        begun = vidgate(*wanted, cwd=site.folder, extra=client)
        assert begun.returncode == ExitCode.STILL_RUNNING, begun.stderr
        job_id = json.loads(begun.stdout)["id"]
        wait_for_line(site.folder / "serve.err", "attempt.accepted", process)
        assert end(process, signal.SIGKILL) == -signal.SIGKILL
    assert vidgate(*pace, "speed=100", cwd=site.folder).returncode == ExitCode.OK
    with running("serve", cwd=site.folder, extra=site.extra) as process:
        url = wait_for_line(site.folder / "serve.err", "vidgate serves at", process).split()[3]
        ended = vidgate("wait", job_id, "--json", cwd=site.folder, extra=client | {"VIDGATE_URL": url})
        assert ended.returncode == ExitCode.OK, ended.stderr
    job = json.loads(ended.stdout)
    assert job["status"] == "succeeded"
    assert [attempt["submits"] for attempt in job["attempts"]] == [1]
    shown = vidgate("sandbox", "show", "segmind", "--url", site.simulators["segmind"], cwd=site.folder)
    assert json.loads(shown.stdout)["meter"]["submits_received"] == 1
