"""The demonstration: from nothing to a playable, billed video, with a retry on the way."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from gateway.cli.exit_codes import ExitCode
from gateway.media.verify import inspect_media
from tests.e2e.processes import vidgate


def test_the_demonstration_shows_the_whole_path_and_leaves_a_playable_video(tmp_path: Path) -> None:
    """The plan with reasons, the receipt, the retry after a 502, the bill, a ledger that adds up, and the way on."""
    ended = vidgate("demo", "--folder", str(tmp_path), cwd=tmp_path)
    assert ended.returncode == ExitCode.OK, ended.stdout + ended.stderr
    shown = ended.stdout
    for part in ("Plan", "refused", "Receipt", "Attempts", "Bill", "Ledger", "Video", "Next"):
        assert part in shown
    assert "HTTP 502" in shown
    assert "retry" in shown
    assert "2 submits" in shown
    assert "captured" in shown
    assert "it adds up, and no rule is broken" in shown
    assert "vidgate dev" in shown
    found = inspect_media((tmp_path / "scene.mp4").read_bytes())
    assert (found.num_frames, found.fps, found.codec) == (25, 12, "h264")


def test_the_demonstration_takes_your_own_picture(tmp_path: Path) -> None:
    """Of any usual format and shape; the video is named after it."""
    Image.linear_gradient("L").resize((300, 400)).convert("RGB").save(tmp_path / "photo.jpg")
    ended = vidgate("demo", "photo.jpg", "--folder", "out", "--speed", "100", cwd=tmp_path)
    assert ended.returncode == ExitCode.OK, ended.stdout + ended.stderr
    assert inspect_media((tmp_path / "out" / "photo.mp4").read_bytes()).num_frames == 25


def test_the_demonstration_of_something_else_ends_with_a_sentence(tmp_path: Path) -> None:
    """A file that is no picture is the gateway's to refuse, in its own words; a missing one the command's."""
    (tmp_path / "notes.txt").write_text("not a picture")
    ended = vidgate("demo", "notes.txt", "--folder", "out", cwd=tmp_path)
    assert ended.returncode == ExitCode.REFUSED
    assert "picture" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr
    assert vidgate("demo", "missing.png", "--folder", "out", cwd=tmp_path).returncode == ExitCode.USAGE
