"""Hostile files cost a bounded part of a worker, and never the gateway."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gateway.media.intake import read_image
from gateway.media.verify import BadMedia, inspect_media
from gateway.problems import InvalidImage
from tests.corpus.cases import CASES, FOLDER, PAGE, builders, page, read
from tests.corpus.films import pointers
from tests.support.workers import decoders
from tests.unit.tidy import ROOT

FILES_MIN = 50
MEMORY_MIB_MAX = 64
CPU_S_MAX = 5.0
GATEWAY_MIB_MAX = 32


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every file, opened both ways by real workers of a process of its own."""
    if sys.platform != "linux":
        pytest.skip("only Linux says what a process took")
    told = tmp_path_factory.mktemp("corpus") / "figures.json"
    subprocess.run(
        [sys.executable, "-m", "tests.corpus", "--quick", "--json", str(told)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])},
        check=True,
        timeout=240,
    )
    figures: dict[str, Any] = json.loads(told.read_text())
    return figures


def test_there_are_as_many_hostile_files_as_promised() -> None:
    """At least fifty, each with its row on the page, each small enough to read; and none that nobody built."""
    assert list(CASES) == list(builders())
    assert sorted(CASES) == sorted(path.name for path in FOLDER.iterdir())
    assert len(CASES) >= FILES_MIN
    assert max(len(read(name)) for name in CASES) <= 128 * 1024
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.corpus --make"


def test_hand_made_files_are_built_the_same_again() -> None:
    """What the committed files are can be read in the code that makes them; encoders may change their bytes."""
    encoded = ("mp4-", "names-film", "png-flat", "png-cut", "jpeg-", "gif-cut", "webp-cut", "webp-500")
    for name, build in builders().items():
        assert name.startswith(encoded) or build() == read(name), name


def test_each_file_comes_to_the_verdict_that_its_row_says(run: dict[str, Any], record_property: Any) -> None:
    """A caller is told the reason, and a vendor's file is opened or bad."""
    found = {row["name"]: (row["taken_in"]["verdict"], row["delivered"]["verdict"]) for row in run["rows"]}
    assert found == {name: (case.picture, case.delivered) for name, case in CASES.items()}
    record_property("figure", f"{len(found)} files")


def test_no_file_costs_more_than_its_share(run: dict[str, Any]) -> None:
    """At most 64 MiB above an idle worker and five seconds of a processor, and the gateway itself hardly grows."""
    costs = {(row["name"], way): row[way] for row in run["rows"] for way in ("taken_in", "delivered")}
    assert {key: cost for key, cost in costs.items() if cost["memory_mib"] > MEMORY_MIB_MAX} == {}
    assert {key: cost for key, cost in costs.items() if cost["cpu_s"] > CPU_S_MAX} == {}
    assert run["grown_mib"] < GATEWAY_MIB_MAX
    ended = {name for (name, _), cost in costs.items() if cost["ended"]}
    assert {"jpeg-8000-scans", "mov-packed-index-of-a-gigabyte"} <= ended


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.picture == "taken"])
def test_what_is_taken_in_leaves_everything_else_behind(name: str) -> None:
    """Of two kinds in one file one goes on: pixels, in a file of vidgate's own making."""
    made = asyncio.run(decoders().take_in(read(name))).data
    for part in (b"script", b"alert", b"PK\x03\x04", b"%PDF", b"JavaScript", b"Exif", b"ICC_PROFILE", b"MPF\0"):
        assert part not in made


class Recorder(BaseHTTPRequestHandler):
    """Counts who comes; nobody should."""

    visits: int = 0

    def do_GET(self) -> None:
        """Count, and serve nothing."""
        type(self).visits += 1
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library names it so
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """A server on loopback that counts its visitors."""
    Recorder.visits = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the canary is a named pipe")
def test_no_name_in_a_file_is_followed(address: str, tmp_path: Path) -> None:
    """Playlists, lists and references name a server and a file of ours: nobody comes, and nothing is opened.

    The file is a named pipe, whose writer waits until somebody opens it. The decoders run here, without the limits of
    a worker, so that they alone are on trial.
    """
    canary = tmp_path / "canary"
    os.mkfifo(canary)
    opened = threading.Event()

    def wait_for_a_reader() -> None:
        with canary.open("wb"):
            opened.set()

    thread = threading.Thread(target=wait_for_a_reader, daemon=True)
    thread.start()
    for name, data in pointers(address, str(canary)).items():
        with pytest.raises(BadMedia):
            inspect_media(data)
        with pytest.raises(InvalidImage):
            read_image(data)
        assert (name, Recorder.visits, opened.is_set()) == (name, 0, False)
    with canary.open("rb"):  # the canary can sing
        thread.join(10)
    assert opened.is_set()
