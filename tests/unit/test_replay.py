"""Replay: the same decision keeps what really was, another one is counted by the book, and nothing is written."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli.exit_codes import CommandError
from gateway.cli.main import program
from gateway.money.prices import PriceBook
from gateway.replay import Recorded, Replay, WhatIf, comparable, load
from gateway.replay_report import plot, report
from gateway.settings_routing import RoutingSection
from providers.contract import Failed, FailureKind
from tests.support.clock import VirtualLoop
from tests.support.gateway import Gateway, Setting, database, fresh_database, make_template, running
from tests.support.scripted import Scripted, price_book

pytestmark = pytest.mark.anyio

ALPHA, BETA = "alpha/one", "beta/one"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def vendors() -> tuple[Scripted, Scripted]:
    """A cheap slow vendor, and a dear fast one."""
    return Scripted(price_micros=10_000, latency_s=60.0), Scripted("beta", price_micros=90_000, latency_s=5.0)


@pytest.fixture
async def gateway(tmp_path: Path, template: Path, vendors: tuple[Scripted, Scripted]) -> AsyncIterator[Gateway]:
    fresh_database(tmp_path, template)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with running(Setting(tmp_path, loop, vendors)) as bench:
        yield bench


def what_if(vendors: tuple[Scripted, Scripted], book: str = "", **changes: Any) -> WhatIf:
    prices = PriceBook.load(price_book(vendors), *([book] if book else []))
    return WhatIf(RoutingSection(), prices, [vendor.route for vendor in vendors], {}, **changes)


async def recorded(gateway: Gateway) -> Recorded:
    return await gateway.read(load, 0.0)


async def test_the_same_rules_decide_the_same_and_cost_what_they_cost(
    gateway: Gateway, vendors: tuple[Scripted, Scripted]
) -> None:
    """The control: with nothing otherwise, every job keeps its route, its cost and its time."""
    for number in range(6):
        await gateway.made(**({"routing": {"objective": "fastest"}} if number % 3 == 0 else {}))
    lines = Replay(await recorded(gateway), what_if(vendors)).run()
    told = report(lines, left_out=0, asked={"since": "1d"})
    assert told["decisions"] == {"kept": 6}
    assert told["was"] == told["would"]
    assert told["was"]["mix"] == {ALPHA: 4, BETA: 2}
    assert told["was"]["cost_micros"] == sum(vendor.charged_micros for vendor in vendors)


async def test_another_objective_moves_the_jobs_that_it_would_have_moved(
    gateway: Gateway, vendors: tuple[Scripted, Scripted]
) -> None:
    """`fastest` sends all to the fast vendor at its price; those that were there keep what really was."""
    for number in range(4):
        await gateway.made(**({"routing": {"objective": "fastest"}} if number == 0 else {}))
    lines = Replay(await recorded(gateway), what_if(vendors, objective="fastest")).run()
    told = report(lines, left_out=0, asked={})
    assert told["would"]["mix"] == {BETA: 4}
    assert told["would"]["cost_micros"] == 4 * 90_000
    assert told["decisions"] == {"kept": 1, "moved": 3}
    assert told["moves"] == [{"from": ALPHA, "to": BETA, "jobs": 3}]
    moved = [one.would for one in lines if one.would.decision == "moved"]
    assert all(0.0 < one.in_time <= 1.0 and one.took_s is not None for one in moved)


async def test_a_provider_left_out_is_refused_and_its_jobs_move_or_are_lost(
    gateway: Gateway, vendors: tuple[Scripted, Scripted]
) -> None:
    """Without the cheap vendor all pay the dear one; without both nobody has a video, at no cost."""
    await gateway.made()
    records = await recorded(gateway)
    without_one = report(Replay(records, what_if(vendors, without=("alpha",))).run(), left_out=0, asked={})
    without_all = report(Replay(records, what_if(vendors, without=(ALPHA, "beta"))).run(), left_out=0, asked={})
    assert without_one["would"]["mix"] == {BETA: 1}
    assert (without_all["would"]["cost_micros"], without_all["would"]["in_time"], without_all["would"]["lost"]) == (
        0,
        0,
        1,
    )


async def test_another_price_book_reprices_what_stays_and_moves_what_it_should(
    gateway: Gateway, vendors: tuple[Scripted, Scripted]
) -> None:
    """With dearer renders at the cheap vendor, the job goes to the other; with cheaper ones it stays, repriced."""
    await gateway.made()
    records = await recorded(gateway)
    dearer = price_book([Scripted(price_micros=900_000, latency_s=60.0)])
    cheaper = price_book([Scripted(price_micros=4_000, latency_s=60.0)])
    moved = report(Replay(records, what_if(vendors, dearer, repriced=True)).run(), left_out=0, asked={})
    stayed = report(Replay(records, what_if(vendors, cheaper, repriced=True)).run(), left_out=0, asked={})
    assert moved["would"]["mix"] == {BETA: 1}
    assert (stayed["would"]["mix"], stayed["would"]["cost_micros"]) == ({ALPHA: 1}, 4_000)
    assert stayed["was"]["cost_micros"] == 10_000


async def test_what_was_learned_by_then_and_not_later_decides(
    gateway: Gateway, vendors: tuple[Scripted, Scripted]
) -> None:
    """A vendor that begins to fail is left in the replay when it was left in life, not before."""
    alpha, _ = vendors
    await gateway.made()
    alpha.checks.extend([Failed(FailureKind.RENDER_FAILED, "no")] * 12)
    for _ in range(8):
        await gateway.made()
    lines = Replay(await recorded(gateway), what_if(vendors)).run()
    assert lines[0].would.route == ALPHA
    assert [one.would.decision for one in lines].count("kept") >= 7


async def test_jobs_that_ended_by_their_callers_doing_are_left_out(
    gateway: Gateway, vendors: tuple[Scripted, Scripted]
) -> None:
    """A blocked picture would have been blocked anywhere: it says nothing about routes."""
    vendors[0].checks.append(Failed(FailureKind.MODERATED, "blocked"))
    assert (await gateway.made())["status"] == "failed"
    await gateway.made()
    records = await recorded(gateway)
    assert (len(records.jobs), len(comparable(records).jobs)) == (2, 1)


async def test_a_replay_leaves_the_database_as_it_was(gateway: Gateway, vendors: tuple[Scripted, Scripted]) -> None:
    """The same rows before and after, to the byte."""
    await gateway.made()
    before = await recorded(gateway)
    Replay(before, what_if(vendors, objective="fastest")).run()
    assert await recorded(gateway) == before


async def test_the_page_has_a_chart_for_cost_deadlines_and_mix(
    gateway: Gateway, vendors: tuple[Scripted, Scripted]
) -> None:
    """One page, three charts, no script."""
    await gateway.made()
    html = plot(report(Replay(await recorded(gateway), what_if(vendors)).run(), left_out=0, asked={}))
    assert html.count("<svg") == 3
    assert "<script" not in html


def run(*arguments: str) -> Any:
    return CliRunner().invoke(program(["replay"]), ["replay", *arguments])


def test_the_command_reads_a_database_without_writing_to_it(tmp_path: Path, template: Path) -> None:
    """Not one byte of the file changes, and an empty one has nothing to tell."""
    fresh_database(tmp_path, template)
    file = database(tmp_path)
    before = hashlib.sha256(file.read_bytes()).digest()
    result = run("--store", f"sqlite:///{file}", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["jobs"] == 0
    assert hashlib.sha256(file.read_bytes()).digest() == before


def test_the_command_reads_a_shared_database(postgres_url: str) -> None:
    """PostgreSQL is read over one snapshot, which writes nothing; an empty one has nothing to tell."""
    result = run("--store", postgres_url, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["jobs"] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--store", "postgresql://nobody@127.0.0.1:1/nothing"), "the database cannot be read"),
        (("--store", "sqlite:///nowhere/at-all.db"), "there is no database"),
        (("--store", "mysql://somewhere"), "records are read from sqlite"),
        (("--since", "soon"), "not a time such as"),
        (("--price-book", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_a_sentence(arguments: tuple[str, ...], told: str) -> None:
    """A wrong option ends with what is wrong, and not with a traceback."""
    if "--store" not in arguments:
        arguments = ("--store", "sqlite:///nowhere/at-all.db", *arguments)
    result = run(*arguments)
    assert isinstance(result.exception, CommandError)
    assert told in result.exception.what
