"""Options made from dataclasses and from the vocabulary: complete, typed, and handed over whole."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.exit_codes import CommandError
from gateway.cli.options import NOT_OFFERED, Follow, Gateway, Request, read_pairs, unfolded, vocabulary
from providers.vocabulary import PARAMETERS, parameters_for


def command_line(command: object) -> typer.Typer:
    """A program of one command."""
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    return app


def test_a_dataclass_unfolds_into_its_fields_and_arrives_whole() -> None:
    """A command asks for a value and the command line offers its parts."""
    received: list[object] = []

    @unfolded()
    def command(image: Annotated[str, typer.Argument()], *, gateway: Gateway, follow: Follow) -> None:
        received.extend((image, gateway, follow))

    result = CliRunner().invoke(
        command_line(command), ["a.png", "--url", "http://x", "-o", "out.mp4", "--timeout", "5"]
    )
    assert result.exit_code == 0, result.output
    assert received == ["a.png", Gateway("http://x", ""), Follow("out.mp4", 5.0, False)]


def test_what_is_not_written_has_the_default_of_its_field() -> None:
    """The dataclass is the one place for defaults."""
    received: list[Gateway] = []

    @unfolded()
    def command(*, gateway: Gateway) -> None:
        received.append(gateway)

    assert CliRunner().invoke(command_line(command), [], env={"VIDGATE_URL": "", "VIDGATE_KEY": ""}).exit_code == 0
    assert received == [Gateway()]


def test_the_environment_names_gateway_and_key() -> None:
    """So that a key need not stand in the shell's history."""
    received: list[Gateway] = []

    @unfolded()
    def command(*, gateway: Gateway) -> None:
        received.append(gateway)

    environment = {"VIDGATE_URL": "https://gate", "VIDGATE_KEY": "vg_x"}
    assert CliRunner().invoke(command_line(command), [], env=environment).exit_code == 0
    assert received == [Gateway("https://gate", "vg_x")]


def test_every_parameter_of_the_vocabulary_is_an_option() -> None:
    """Names, help and metavars come from the one table; only how the result is handed over is not offered."""
    for media in ("video", "image"):
        offered = [parameter for parameter in parameters_for(media) if parameter.name not in NOT_OFFERED]
        names = {name for parameter in offered for name in (parameter.name, *parameter.aliases)}
        infos = [option.annotation.__metadata__[0] for option in vocabulary(media)]
        flags = [flag for info in infos for flag in (info.default, *info.param_decls)]
        assert sorted(flags) == sorted("--" + name.replace("_", "-") for name in names)
    assert set(NOT_OFFERED) <= {parameter.name for parameter in PARAMETERS}


def test_the_written_parameters_arrive_as_text_and_the_others_not_at_all() -> None:
    """The gateway reads and checks them: it alone knows which route takes which value."""
    received: list[Mapping[str, str]] = []

    @unfolded(parameters=vocabulary("video"))
    def command(*, parameters: Mapping[str, str]) -> None:
        received.append(parameters)

    arguments = ["--num-frames", "many", "--camera-motion", "Pan Left", "--enhance-prompt", "true", "--seed", "-1"]
    result = CliRunner().invoke(command_line(command), arguments)
    assert result.exit_code == 0, result.output
    assert received == [{"num_frames": "many", "camera_motion": "Pan Left", "enhance_prompt": "true", "seed": "-1"}]


def test_the_help_of_an_option_has_range_default_and_choices() -> None:
    """All that the table knows."""
    helps = {option.name: option.annotation.__metadata__[0].help for option in vocabulary("video")}
    assert "From 1 to 255." in helps["motion_bucket_id"]
    assert "Default 127." in helps["motion_bucket_id"]
    assert "One of mp4, gif, webp." in helps["output_format"]
    assert "From -1 to 999999999999999." in helps["seed"]


def test_only_what_was_written_about_routing_travels() -> None:
    """An option that was not given must not overrule the team's usual objective."""
    assert Request().routing() == {}
    wish = Request(objective="fastest", only=["segmind"], ignore=[], max_cost_usd=0.0)
    assert wish.routing() == {"objective": "fastest", "only": ["segmind"], "max_cost_usd": 0.0}


def test_every_routing_option_is_a_member_of_the_request() -> None:
    """The gateway's own model of a routing wish has each of them."""
    from gateway.planning import RoutingWish

    full = Request(
        objective="balanced", max_cost_usd=1.0, deadline_s=60.0, pin="a/b", only=["a"], ignore=["b"], fit="nearest"
    )
    assert RoutingWish.model_validate(full.routing()).pin == "a/b"


def test_grouped_values_are_frozen() -> None:
    """What was read from the command line is not changed on the way."""
    for group in (Gateway, Follow, Request):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(group(), dataclasses.fields(group)[0].name, None)


def test_pairs_are_split_at_the_first_sign() -> None:
    """A value may hold further signs, blanks, and be empty."""
    assert read_pairs(["a=1", "b=x=y z", "c="], "-p") == {"a": "1", "b": "x=y z", "c": ""}
    assert read_pairs(None, "-p") == {}


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a=1", "a=2"], [""]])
def test_a_pair_that_is_none_or_comes_twice_is_refused(pairs: list[str]) -> None:
    """With the option's own name in the sentence."""
    with pytest.raises(CommandError, match="--tag"):
        read_pairs(pairs, "--tag")


def test_the_unfolded_signature_is_what_typer_reads() -> None:
    """Positional arguments stay where they are; options follow, by keyword only."""

    @unfolded(parameters=vocabulary("image"))
    def command(image: str, *, gateway: Gateway, parameters: Mapping[str, str]) -> None: ...

    names = list(inspect.signature(command).parameters)
    assert names[:3] == ["image", "url", "key"]
    assert "parameters" not in names
    assert "gateway" not in names
