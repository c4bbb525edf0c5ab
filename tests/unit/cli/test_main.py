"""The command `vidgate` as a whole: help that teaches, exit codes, and refusals that say what mends them."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
import yaml

from gateway.cli import main
from gateway.cli.exit_codes import MEANINGS, ExitCode
from gateway.cli.main import COMMANDS
from gateway.cli.servers import simulated
from providers.registry import plugins
from tests.support.time_limit import run_bounded

ROOT = Path(__file__).parents[3]
SECRET = "a-signing-secret-of-enough-bytes"


def every_command() -> Iterator[tuple[str, ...]]:
    """The words of every command there is, those of groups included."""
    for name, place in COMMANDS.items():
        module, _, attribute = place.partition(":")
        part = getattr(import_module(module), attribute)
        group = part.registered_commands if isinstance(part, typer.Typer) else ()
        yield from [(name, str(command.name)) for command in group]
        if not group or part.registered_callback:
            yield (name,)


def run(*arguments: str) -> int:
    """Run a command line in this process and answer with its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    code = ended.value.code
    return 0 if code is None else int(code)


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal wide enough that sentences stay on one line, and no variable of the developer's own."""
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("VIDGATE_CONFIG", "VIDGATE_URL", "VIDGATE_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good configuration on embedded parts, without any vendor."""
    file = tmp_path / "vidgate.yaml"
    sections = {
        "security": {"signing_secret": SECRET},
        "store": {"url": f"sqlite:///{tmp_path / 'v.db'}"},
        "artifacts": {"url": str(tmp_path / "artifacts")},
        "providers": {"preview": {}, "segmind": {"api_key": "SG_0123456789abcdef"}},
        "money": {"default_budget_micros": 5_000_000},
    }
    file.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return file


def test_a_command_loads_no_part_of_another() -> None:
    """A client starts fast because nothing of the server is imported for it."""
    code = (
        "import sys; from gateway.cli.main import program; program(['generate', 'wait', 'routes']); print(*sys.modules)"
    )
    loaded = run_bounded([sys.executable, "-c", code], timeout_s=60, cwd=ROOT).stdout
    assert "gateway.cli" in loaded.split()
    assert {"sqlalchemy", "av", "gateway.app", "uvicorn"} & set(loaded.split()) == set()


@pytest.mark.parametrize("command", tuple(every_command()), ids=" ".join)
def test_the_help_of_every_command_teaches_by_example(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """What it does, and at least one line that can be typed."""
    assert run(*command, "--help") == ExitCode.OK
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"vidgate {command[0]}" in shown


def test_the_help_lists_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts can rely on what the help says."""
    assert run("--help") == ExitCode.OK
    shown = capsys.readouterr().out
    assert all(f"{code.value:>4}  {meaning}" in shown for code, meaning in MEANINGS.items())


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """The installed distribution's own."""
    assert run("--version") == ExitCode.OK
    assert capsys.readouterr().out.startswith("vidgate 0.")


def test_a_wrong_command_line_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With the nearest command."""
    assert run("genrate") == ExitCode.USAGE
    assert "generate" in capsys.readouterr().err
    assert run("generate") == ExitCode.USAGE
    assert run("dev", "--port", "70000") == ExitCode.USAGE


def test_serve_without_a_configuration_refuses_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    """A simulator is never used in a vendor's place unless somebody asked for it."""
    assert run("serve") == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "never puts a simulator in a vendor's place" in said
    assert "examples/vidgate.yaml" in said
    assert "vidgate dev" in said


def test_serve_with_a_bad_configuration_lists_its_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same words as `config check`, and nothing has started."""
    file = tmp_path / "bad.yaml"
    file.write_text("jobs: {lease_s: 3}\n", encoding="utf-8")
    assert run("serve", "--config", str(file)) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "security: is required" in said
    assert "no provider is configured" in said


def test_serve_on_a_port_that_is_taken_names_the_setting(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And not a traceback of the socket."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config.write_text(config.read_text() + f"server: {{port: {port}}}\n", encoding="utf-8")
        assert run("serve", "--config", str(config)) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "server.port" in said


def test_config_check_shows_what_is_set_and_no_secret(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Settings, providers and routes as tables."""
    assert run("config", "check", str(config)) == ExitCode.OK
    captured = capsys.readouterr()
    assert "money.default_budget_micros" in captured.out
    assert "segmind/svd" in captured.out
    assert "(set, not shown)" in captured.out
    for secret in (SECRET, "SG_0123456789abcdef"):
        assert secret not in captured.out + captured.err


def test_config_check_gives_machines_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Usable or not, faults, warnings, settings without secrets."""
    assert run("config", "check", str(config), "--json") == ExitCode.OK
    text = capsys.readouterr().out
    told = json.loads(text)
    assert told["usable"] is True
    assert told["settings"]["jobs"]["lease_s"] == 15
    assert "segmind/svd" in told["routes"]
    assert SECRET not in text
    assert "SG_0123456789abcdef" not in text


def test_config_check_of_a_bad_file_exits_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Faults with path and line, for people on standard error, for machines as JSON."""
    file = tmp_path / "bad.yaml"
    file.write_text("server:\n  prt: 1\n", encoding="utf-8")
    assert run("config", "check", str(file)) == ExitCode.USAGE
    assert "line 2: server.prt: unknown key; did you mean `port`?" in capsys.readouterr().err
    assert run("config", "check", str(file), "--json") == ExitCode.USAGE
    told = json.loads(capsys.readouterr().out)
    assert told["usable"] is False
    assert {"path": "server.prt", "line": 2, "detail": "unknown key; did you mean `port`?"} in told["faults"]


def test_config_check_tells_warnings_and_still_succeeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning is for the operator to judge."""
    file = tmp_path / "warned.yaml"
    section = "{api_key: long-enough-key}"
    file.write_text(f"security: {{signing_secret: {SECRET}}}\nproviders: {{modelslab: {section}}}\n", encoding="utf-8")
    assert run("config", "check", str(file)) == ExitCode.OK
    assert "warning: routes.modelslab/svd:" in capsys.readouterr().err


def test_config_reference_prints_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    """As Markdown, for the documentation."""
    assert run("config", "reference") == ExitCode.OK
    shown = capsys.readouterr().out
    assert "| `jobs.lease_s` |" in shown
    assert "### providers.segmind" in shown


def test_a_key_is_shown_once_and_its_team_has_the_default_budget(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second key of the team brings no second budget."""
    assert run("keys", "create", "--team", "film", "--config", str(config), "--json") == ExitCode.OK
    first = json.loads(capsys.readouterr().out)
    assert first["key"].startswith("vg_")
    assert first["budget_micros"] == 5_000_000
    assert run("keys", "create", "--team", "film", "--config", str(config), "--json") == ExitCode.OK
    second = json.loads(capsys.readouterr().out)
    assert second["team_id"] == first["team_id"]
    assert second["key"] != first["key"]
    assert second["budget_micros"] is None
    stored = Path(config.parent / "v.db").read_bytes()
    assert first["key"].encode() not in stored


def test_a_key_is_told_to_a_person_with_its_budget(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The key stands alone on its line, to be copied."""
    assert run("keys", "create", "--team", "film", "--config", str(config), "--expires-days", "30") == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("vg_")
    assert "team film, with a budget of $5.00 a month" in lines[1]


def test_a_picture_that_is_not_there_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing was sent anywhere."""
    assert run("generate", str(tmp_path / "no.png"), "--url", "http://127.0.0.1:1") == ExitCode.USAGE
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_a_parameter_given_twice_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As an option and as a pair: which of the two was meant is not guessed."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"x")
    assert run("generate", str(picture), "--fps", "7", "-p", "fps=8") == ExitCode.USAGE
    assert "fps is given both" in capsys.readouterr().err


def test_no_gateway_is_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts can tell a refused request from a gateway that is down."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        assert run("routes", "--url", f"http://127.0.0.1:{port}") == ExitCode.UNREACHABLE
    assert f"no gateway answers at http://127.0.0.1:{port}" in capsys.readouterr().err


def test_an_address_that_is_none_is_told_and_not_thrown(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped --url is the same case."""
    for url in ("localhost:8080", "http://[", "nonsense://x"):
        assert run("routes", "--url", url) == ExitCode.UNREACHABLE
    assert "Traceback" not in capsys.readouterr().err


def test_steering_a_simulator_that_does_not_exist_names_the_ones_that_do(capsys: pytest.CaptureFixture[str]) -> None:
    """And one that is not running says how to start it."""
    names = [plugin.name for plugin in simulated(plugins())]
    assert run("sandbox", "set", "nobody", "speed=1") == ExitCode.USAGE
    said = capsys.readouterr().err
    assert all(name in said for name in names)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        assert run("sandbox", "show", names[0], "--url", address) == ExitCode.UNREACHABLE
    assert "vidgate sandbox" in capsys.readouterr().err


def test_a_folder_that_cannot_be_used_is_told_and_not_thrown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where the folder should go."""
    (tmp_path / "taken").write_text("a file")
    folder = str(tmp_path / "taken" / "var")
    assert run("dev", "--port", "0", "--port-base", "0", "--folder", folder, "--json") == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "Not a directory" in said
    assert "Traceback" not in said


def test_a_provider_package_that_does_not_fit_is_told(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator who installed the wrong package reads its name."""
    from gateway.cli import servers
    from providers.registry import PluginError

    def broken() -> None:
        raise PluginError("entry point 'acme:NOT' must name a ProviderPlugin")

    monkeypatch.setattr(servers, "plugins", broken)
    assert run("config", "check", str(config)) == ExitCode.USAGE
    assert "acme:NOT" in capsys.readouterr().err
