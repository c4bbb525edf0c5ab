"""Steering simulators from the command line: addresses, values, and what refusals look like."""

from __future__ import annotations

import pytest

from gateway.cli import sandbox
from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.servers import SimulatorPlan, run, simulated, simulators
from providers.registry import BUILTIN, plugins

PLUGINS = {plugin.name: plugin for plugin in BUILTIN}
NAMES = [plugin.name for plugin in simulated(PLUGINS)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100", 100),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ('{"submit": {"429": 0.2}}', {"submit": {"429": 0.2}}),
        ("[]", []),
        ("cached", "cached"),
        ("", ""),
        ("True", "True"),
    ],
)
def test_a_switch_takes_json_or_else_text(text: str, value: object) -> None:
    """Words need no quotes; numbers, lists and objects are what they look like."""
    assert sandbox._value(text) == value


def test_a_simulator_is_found_at_its_place_above_the_port_base() -> None:
    """The same order in which they are served, unless an address is given."""
    for place, name in enumerate(NAMES):
        assert sandbox._address(name, 9100, "") == f"http://127.0.0.1:{9100 + place}/_sandbox"
    assert sandbox._address("whatever", 9100, "http://there:1/") == "http://there:1/_sandbox"


def test_the_nearest_simulator_is_offered_for_a_mistyped_one() -> None:
    """Providers without a simulator are not among them."""
    with pytest.raises(CommandError, match="did you mean") as caught:
        sandbox._address(NAMES[0][:-1], 9100, "")
    assert caught.value.code is ExitCode.USAGE
    without = next(name for name in plugins() if name not in NAMES)
    with pytest.raises(CommandError, match="no simulator"):
        sandbox._address(without, 9100, "")


@pytest.fixture(params=NAMES)
def provider(request: pytest.FixtureRequest) -> str:
    """Every provider that has a simulator."""
    return str(request.param)


def test_every_simulator_can_be_steered_and_shown(provider: str) -> None:
    """Switches change, faults queue up, counts and invoice can be read; all over real HTTP."""

    async def work() -> None:
        async with simulators(PLUGINS, SimulatorPlan(0, 10.0)) as urls:
            address = sandbox._address(provider, 0, urls[provider])
            assert (await sandbox._ask("PATCH", f"{address}/settings", {"speed": 77}))["speed"] == 77
            fault = {"operation": "submit", "fault": "502_after_accept", "count": 2}
            answer = await sandbox._ask("POST", f"{address}/faults", fault)
            assert answer["pending"] == {"submit": ["502_after_accept"] * 2}
            shown = await sandbox._show(address)
            assert set(shown) == {"settings", "faults", "meter", "invoice"}
            assert shown["settings"]["speed"] == 77
            assert shown["meter"]["submits_received"] == 0
            assert shown["invoice"]["charges"] == []

    run(work())


def test_a_refusal_of_a_simulator_is_told_in_its_words(provider: str) -> None:
    """An unknown switch, a bad value, an unknown fault: exit code three, and nothing has changed."""

    async def work() -> None:
        async with simulators(PLUGINS, SimulatorPlan(0, 10.0)) as urls:
            address = sandbox._address(provider, 0, urls[provider])
            for path, body in (("settings", {"sped": 1}), ("settings", {"speed": 0}), ("faults", {"fault": "x"})):
                method = "PATCH" if path == "settings" else "POST"
                with pytest.raises(CommandError, match="the simulator refused") as caught:
                    await sandbox._ask(method, f"{address}/{path}", body)
                assert caught.value.code is ExitCode.REFUSED
            assert (await sandbox._show(address))["settings"]["speed"] == 10.0

    run(work())


@pytest.mark.parametrize(
    ("port_base", "where"), [(sandbox.PORT_BASE, ""), (9300, " --port-base 9300"), (0, " --url http://127.0.0.1:41234")]
)
def test_the_commands_that_are_shown_reach_the_simulators_that_run(
    port_base: int, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody copies them: with the ports that were chosen, or the address of a free one."""
    url = "http://127.0.0.1:41234" if not port_base else f"http://127.0.0.1:{port_base}"
    sandbox._introduce({NAMES[0]: url}, {NAMES[0]: {}}, port_base)
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    commands = [line for line in shown if line.startswith("vidgate sandbox ")]
    assert [command.split()[2] for command in commands] == ["fault", "set", "show"]
    assert commands[2] == f"vidgate sandbox show {NAMES[0]}{where}"
    assert all(command.endswith(where) for command in commands)


def test_a_mistyped_switch_is_told_in_a_sentence_with_the_nearest_one(provider: str) -> None:
    """And a value out of range with its range; nothing of how the simulator checks them."""

    async def work() -> None:
        async with simulators(PLUGINS, SimulatorPlan(0, 10.0)) as urls:
            address = sandbox._address(provider, 0, urls[provider]) + "/settings"
            for changes, sentence in (
                ({"sped": 1}, "the simulator refused: there is no switch sped; did you mean speed?"),
                ({"speed": 0}, "the simulator refused: speed: must be greater than 0"),
            ):
                with pytest.raises(CommandError) as caught:
                    await sandbox._ask("PATCH", address, changes)
                assert caught.value.what == sentence

    run(work())
