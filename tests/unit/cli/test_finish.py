"""How `generate` and `wait` end a job: files, names, exit codes, and what is printed where."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cli.exit_codes import CommandError, ExitCode
from gateway.cli.generate import _finish, read_picture
from gateway.cli.options import Follow
from gateway.client import AsyncVidgate
from gateway.client.resources import job_of
from tests.unit.cli.jobs import file, job

pytestmark = pytest.mark.anyio


@pytest.fixture
def gateway() -> Callable[[], AsyncVidgate]:
    """A gateway whose every result is a few bytes naming the file that was asked for."""

    def content(request: httpx.Request) -> httpx.Response:
        body = b"file " + request.url.params["file"].encode()
        return httpx.Response(200, content=body, headers={"etag": f'"{hashlib.sha256(body).hexdigest()}"'})

    return lambda: AsyncVidgate(http=httpx.AsyncClient(transport=httpx.MockTransport(content)))


async def finish(client: AsyncVidgate, told: dict[str, Any], follow: Follow) -> ExitCode:
    """The exit code that a job in this state ends with."""
    try:
        await _finish(client, job_of(told), follow)
    except CommandError as error:
        return error.code
    return ExitCode.OK


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("succeeded", ExitCode.OK),
        ("failed", ExitCode.JOB_FAILED),
        ("canceled", ExitCode.JOB_FAILED),
        ("expired", ExitCode.JOB_FAILED),
        ("queued", ExitCode.STILL_RUNNING),
        ("running", ExitCode.STILL_RUNNING),
    ],
)
async def test_every_status_has_its_exit_code(
    status: str, code: ExitCode, gateway: Callable[[], AsyncVidgate], tmp_path: Path
) -> None:
    """And whatever the end, the job is told."""
    told = job(status) if status == "succeeded" else job(status, result=None)
    follow = Follow(str(tmp_path / "out.mp4"), timeout_s=0)
    assert await finish(gateway(), told, follow) is code


async def test_the_result_goes_to_the_named_file(
    gateway: Callable[[], AsyncVidgate], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told on standard output; the stages on standard error."""
    await finish(gateway(), job(), Follow(str(tmp_path / "out.mp4")))
    assert (tmp_path / "out.mp4").read_bytes() == b"file 0"
    captured = capsys.readouterr()
    assert "Receipt" in captured.out
    assert captured.err == "job_1: succeeded on acme/svd\n"


async def test_several_results_are_numbered(gateway: Callable[[], AsyncVidgate], tmp_path: Path) -> None:
    """None overwrites another."""
    told = job(result={"files": [file(media_type="image/png")] * 3})
    await finish(gateway(), told, Follow(str(tmp_path / "out.png")))
    assert contents(tmp_path) == {"out.png": b"file 0", "out-2.png": b"file 1", "out-3.png": b"file 2"}


@pytest.mark.parametrize(
    ("media_type", "name"), [("video/mp4", "job_1.mp4"), ("image/gif", "job_1.gif"), ("image/webp", "job_1.webp")]
)
async def test_without_a_name_the_file_is_named_after_the_job(
    media_type: str,
    name: str,
    gateway: Callable[[], AsyncVidgate],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the ending of what was delivered."""
    monkeypatch.chdir(tmp_path)
    await finish(gateway(), job(result={"files": [file(media_type=media_type)]}), Follow())
    assert list(contents(tmp_path)) == [name]


async def test_json_is_all_that_stands_on_standard_output(
    gateway: Callable[[], AsyncVidgate], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole job, and where its files are."""
    target = str(tmp_path / "out.mp4")
    await finish(gateway(), job(), Follow(target, as_json=True))
    assert json.loads(capsys.readouterr().out) == job() | {"saved": [target]}


async def test_json_is_printed_of_a_failed_job_too(
    gateway: Callable[[], AsyncVidgate], capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine wants to know why."""
    failed = job("failed", result=None, error={"title": "t", "detail": "d"})
    assert await finish(gateway(), failed, Follow(as_json=True)) is ExitCode.JOB_FAILED
    told = json.loads(capsys.readouterr().out)
    assert told["error"]["detail"] == "d"
    assert told["saved"] == []


async def test_a_picture_is_read_and_a_link_is_passed_on(tmp_path: Path) -> None:
    """What looks like a link is the gateway's to fetch."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    assert read_picture(str(picture)) == b"\x89PNG"
    for link in ("https://x/a.png", "http://x/a.png", "data:image/png;base64,AAAA"):
        assert read_picture(link) == link
    with pytest.raises(CommandError, match="cannot be read"):
        read_picture(str(tmp_path))
