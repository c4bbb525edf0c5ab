"""A file opened in a process of its own is what it would be here, and failures are told in the caller's words."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from gateway.media import decoders as decoders_module
from gateway.media.decoders import Decoders
from gateway.media.headers import read_header
from gateway.media.intake import ImageLimits, read_image
from gateway.media.prepare import ImagePlan, prepare
from gateway.media.verify import BadMedia, MediaInfo, inspect_media
from gateway.media.workers import Broken, Busy, Job, NotStarted, Refused, Reply, TooCostly, WorkerError, Workers
from gateway.problems import ContentTooLarge, InvalidImage, Problem, Unavailable
from tests.support.workers import decoders
from tests.unit.media.support import clip, png_of, saved, textured

KINDS = ("png", "jpeg", "webp", "gif")
INFO = ["mp4", "h264", 160, 90, 5, 7.0, 0.714, 1000]


class Scripted(Workers):
    """Workers that answer by script; what they were asked for is kept."""

    def __init__(self, answer: Reply | WorkerError) -> None:
        self.answer = answer
        self.memory_bytes_max = 512 * 1024 * 1024
        self.jobs: list[Job] = []

    async def do(self, job: Job, *, may_refuse: bool = False) -> Reply:
        del may_refuse
        self.jobs.append(job)
        if isinstance(self.answer, WorkerError):
            raise self.answer
        return self.answer


def problem_of(awaitable: Awaitable[object]) -> Problem:
    """The problem that comes of it."""

    async def run() -> object:
        return await awaitable

    with pytest.raises(Problem) as caught:
        asyncio.run(run())
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_taken_in_as_it_would_be_here(kind: str) -> None:
    """The process apart changes nothing: the same clean bytes, from bytes and from text."""
    data = saved(textured(), kind)
    here = read_image(data)
    assert asyncio.run(decoders().take_in(data)) == here
    assert asyncio.run(decoders().take_in(base64.b64encode(data).decode())) == here


@pytest.mark.parametrize("lossless", [True, False])
def test_a_picture_is_prepared_as_it_would_be_here(lossless: bool) -> None:
    """Cut and scaled in a worker, to the same bytes."""
    image = read_image(saved(textured(), "png" if lossless else "jpeg"))
    for plan in (ImagePlan((1, 1)), ImagePlan(None, 64, 64), ImagePlan(width=33)):
        assert asyncio.run(decoders().prepare(image, plan)) == prepare(image, plan)


@pytest.mark.parametrize("container", ["mp4", "gif", "webp"])
def test_a_clip_is_inspected_and_converted_as_it_would_be_here(container: str) -> None:
    """Every container to every other, and the very same bytes where it is that already."""
    info = asyncio.run(decoders().inspect(clip(container)))
    assert info == inspect_media(clip(container))
    for wanted in ("mp4", "gif", "webp"):
        made = asyncio.run(decoders().convert(clip(container), info, wanted))
        assert inspect_media(made).container == wanted
        assert (made == clip(container)) is (wanted == container)


def test_what_the_worker_refuses_is_the_same_problem_as_here() -> None:
    """The sentence and the members of the problem come through."""
    cut = saved(textured(), "jpeg")[:900]
    with pytest.raises(InvalidImage) as here:
        read_image(cut)
    problem = problem_of(decoders().take_in(cut))
    assert (type(problem), problem.body()) == (InvalidImage, here.value.body())


@pytest.mark.parametrize(
    ("source", "limits", "kind"),
    [
        (b"", ImageLimits(), InvalidImage),
        (b"%PDF-1.7", ImageLimits(), InvalidImage),
        ("no base64!", ImageLimits(), InvalidImage),
        (png_of(20_000, 20_000), ImageLimits(), InvalidImage),
        (png_of(64, 64), ImageLimits(bytes_max=10), ContentTooLarge),
    ],
    ids=["empty", "pdf", "text", "huge", "long"],
)
def test_what_its_header_forbids_is_never_handed_to_a_worker(
    source: bytes | str, limits: ImageLimits, kind: type[Problem]
) -> None:
    """The first judgement needs no decoder, so it costs none."""
    workers = Scripted(Reply([], b""))
    assert type(problem_of(Decoders(workers).take_in(source, limits))) is kind
    assert workers.jobs == []


def test_the_header_is_judged_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Base64 of twenty megabytes does not hold up other requests."""
    threads: list[threading.Thread] = []
    judge = decoders_module.judge
    monkeypatch.setattr(
        decoders_module, "judge", lambda *args: threads.append(threading.current_thread()) or judge(*args)
    )
    asyncio.run(decoders().take_in(saved(textured(), "png")))
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (TooCostly("it takes longer"), 422, "too_costly"),
        (Broken("SIGSEGV"), 422, "decoder_failed"),
        (Refused("It is cut off.", {"reason": "truncated"}), 422, "truncated"),
        (Busy("too many"), 503, None),
        (NotStarted("no process"), 503, None),
    ],
)
def test_each_failure_of_a_worker_is_a_problem_of_its_own(error: WorkerError, status: int, reason: str | None) -> None:
    """The file's faults are the caller's to mend; those of the machine say when to come again."""
    problem = problem_of(Decoders(Scripted(error)).take_in(saved(textured(), "png")))
    assert (problem.status, problem.extensions.get("reason")) == (status, reason)
    assert ("Retry-After" in problem.headers) is (status == 503)


FORGED: Mapping[str, Mapping[str, Any]] = {
    "nothing": {},
    "headers": {"reason": "damaged", "headers": {"set-cookie": "a=b"}},
    "another sentence": {"reason": "damaged", "detail": "Send your key."},
    "another status": {"reason": "damaged", "status": 200},
    "another type": {"reason": "damaged", "type": "https://elsewhere.example/"},
    "an unknown member": {"reason": "damaged", "hint": "https://elsewhere.example/"},
    "an unknown reason": {"reason": "send money"},
    "no text as reason": {"reason": ["damaged"]},
    "no number": {"reason": "too_small", "width": float("nan"), "height": 1},
    "a truth for a number": {"reason": "too_small", "width": True, "height": 1},
    "text for a number": {"reason": "too_small", "width": "1", "height": 1},
    "a negative number": {"reason": "too_small", "width": -1, "height": 1},
    "a number without end": {"reason": "too_many_pixels", "width": 10**30, "height": 1},
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_worker_that_refuses_in_words_of_its_own_is_not_believed(forged: str) -> None:
    """A decoder that was taken over sets no header, no status and no member of the answer."""
    workers = Scripted(Refused("It is damaged.", FORGED[forged]))
    problem = problem_of(Decoders(workers).take_in(saved(textured(), "png")))
    assert (type(problem), problem.headers) == (InvalidImage, {})
    assert problem.extensions == {"reason": "decoder_failed"}
    assert problem.detail.startswith("The picture cannot be opened")


@pytest.mark.parametrize("detail", ["", "\ud800", "a\nb", "\u202eabc", "x" * 301])
def test_a_worker_that_refuses_in_no_plain_sentence_is_not_believed(detail: str) -> None:
    """What cannot be written as an answer, or reads as another one, is left out of it."""
    workers = Scripted(Refused(detail, {"reason": "damaged"}))
    assert problem_of(Decoders(workers).take_in(saved(textured(), "png"))).extensions == {"reason": "decoder_failed"}
    with pytest.raises(BadMedia, match="nonsense"):
        asyncio.run(Decoders(workers).inspect(clip()))


@pytest.mark.parametrize("error", [TooCostly("it takes longer"), Broken("SIGSEGV"), NotStarted("no process")])
def test_a_picture_that_cannot_be_prepared_can_be_later(error: WorkerError) -> None:
    """It was taken in whole: whatever fails now is not the caller's."""
    image = read_image(saved(textured(), "png"))
    problem = problem_of(Decoders(Scripted(error)).prepare(image, ImagePlan((1, 1))))
    assert isinstance(problem, Unavailable)


@pytest.mark.parametrize("error", [TooCostly("it takes longer"), Broken("SIGSEGV"), Refused("it is cut off", {})])
def test_a_clip_that_breaks_a_worker_is_bad(error: WorkerError) -> None:
    """A vendor's file that cannot be opened is a verdict on the file, with the reason in it."""
    with pytest.raises(BadMedia, match=str(error)):
        asyncio.run(Decoders(Scripted(error)).inspect(clip()))
    with pytest.raises(BadMedia, match=str(error)):
        asyncio.run(Decoders(Scripted(error)).convert(clip(), inspect_media(clip()), "gif"))


def test_a_clip_that_no_worker_could_be_started_for_is_not_bad() -> None:
    """The engine asks again later: a machine without room says nothing of a file that was paid for."""
    with pytest.raises(NotStarted):
        asyncio.run(Decoders(Scripted(NotStarted("no process"))).inspect(clip()))


@pytest.mark.parametrize("made", [b"", b"MZ", b"GIF89a\x20\x00\x20\x00;", b"\xff\xd8\xff", b"<script>"])
def test_a_worker_that_makes_no_picture_is_not_believed(made: bytes) -> None:
    """What goes on to a vendor is a PNG or a JPEG by its own bytes."""
    reply = Reply(["image/png", 160, 90], made)
    problem = problem_of(Decoders(Scripted(reply)).take_in(saved(textured(), "png")))
    assert problem.extensions["reason"] == "decoder_failed"


def test_a_picture_is_what_its_bytes_say_and_not_what_the_worker_says() -> None:
    """Type, size and hash are read here."""
    image = read_image(saved(textured(), "jpeg"))
    lies = Scripted(Reply(["text/html", 10**9, -1], image.data))
    assert asyncio.run(Decoders(lies).take_in(saved(textured(), "jpeg"))) == image


BENT: Mapping[str, Callable[[list[Any]], list[Any]]] = {
    "nothing": lambda _info: [],
    "one too few": lambda info: info[:-1],
    "one too many": lambda info: [*info, 1],
    "text for a number": lambda info: [*info[:2], "160", *info[3:]],
    "no rate": lambda info: [*info[:5], float("nan"), *info[6:]],
    "for ever": lambda info: [*info[:6], float("inf"), *info[7:]],
    "an object": lambda info: [{"a": 1}, *info[1:]],
}


@pytest.mark.parametrize("how", BENT)
def test_a_worker_that_describes_no_clip_is_not_believed(how: str) -> None:
    """Values of another kind never reach the job's record."""
    assert asyncio.run(Decoders(Scripted(Reply(INFO, b""))).inspect(clip())) == MediaInfo(*INFO)
    with pytest.raises(BadMedia, match="nonsense"):
        asyncio.run(Decoders(Scripted(Reply(BENT[how](INFO), b""))).inspect(clip()))


def test_what_may_be_spent_follows_from_what_was_sent() -> None:
    """A small file has 64 MiB and five seconds, whatever it declares; a large one more, up to the configured bound."""
    image = read_image(saved(textured(), "png"))
    workers = Scripted(Reply(["image/png", 160, 90], image.data))
    for data, mebibytes, cpu_s in (
        (png_of(3_600, 3_600), 64, 4),
        (png_of(5_000, 5_000) + bytes(300 * 1024), 150, 4),
        (png_of(5_000, 5_000) + bytes(4 * 1024 * 1024), 512, 8),
        (png_of(160, 90) + bytes(4 * 1024 * 1024), 72, 8),
    ):
        asyncio.run(Decoders(workers).take_in(data))
        allowance = workers.jobs[-1].allowance
        assert (allowance.memory_bytes // 1024**2, allowance.cpu_s) == (mebibytes, cpu_s)
    asyncio.run(Decoders(workers).prepare(replace(image, width=4000, height=3000), ImagePlan((1, 1))))
    assert workers.jobs[-1].allowance.memory_bytes > 256 * 1024 * 1024


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_photograph_of_twelve_megapixels_is_taken(mode: str) -> None:
    """The bounds are for bombs: what telephones make passes, in the forms in which they send it."""
    picture = textured(500, 375).resize((4000, 3000)).convert(mode)
    data = saved(picture, "png", compress_level=1) if mode != "RGB" else saved(picture, "jpeg", quality=90)
    taken = asyncio.run(decoders().take_in(data))
    header = read_header(taken.data)
    assert header is not None
    assert (taken.width, taken.height) == (header.width, header.height) == (4000, 3000)


@pytest.mark.parametrize(
    ("mode", "side_px", "costs_a_worker"),
    [("1", 6_000, False), ("1", 3_600, True), ("RGB", 4_100, False), ("RGB", 4_000, True), ("RGBA", 2_900, False)],
)
def test_a_small_file_of_many_pixels_takes_no_worker_from_anybody(
    mode: str, side_px: int, costs_a_worker: bool
) -> None:
    """What its header alone shows to be too costly is refused before any process is ended over it."""
    bomb = saved(Image.new(mode, (side_px, side_px)), "png")
    assert len(bomb) < 128 * 1024
    workers = Scripted(TooCostly("it takes more"))
    assert problem_of(Decoders(workers).take_in(bomb)).extensions == {"reason": "too_costly"}
    assert bool(workers.jobs) is costs_a_worker


def test_a_flat_picture_of_many_pixels_costs_no_more_than_a_small_file_may() -> None:
    """Twenty-five megapixels of one colour in a hundred kilobytes: too costly, and the next picture is taken."""
    flat = saved(Image.new("RGBA", (5000, 5000), (9, 9, 9, 200)), "png")
    assert len(flat) < 128 * 1024
    problem = problem_of(decoders().take_in(flat))
    assert problem.extensions == {"reason": "too_costly"}
    assert asyncio.run(decoders().take_in(saved(textured(), "png"))).width == 160
