"""Both Python clients, blocking and awaited: what they send, what they repeat, how they follow, fetch and fail."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest

from gateway.client import (
    AsyncVidgate,
    BudgetExceededError,
    DamagedError,
    GatewayUnavailableError,
    Job,
    JobFailedError,
    JobStillRunningError,
    NotAllowedError,
    NotVidgateError,
    RefusedError,
    Retries,
    UnreachableError,
    Vidgate,
)
from gateway.client.fields import ImageFields, VideoFields
from gateway.client.flows import YOUNG_S
from providers.vocabulary import parameters_for
from tests.unit.cli.jobs import job
from tests.unit.client.talk import Broken, Talk, answered, content, parts

COMMON = {"fit", "routing", "metadata"}


@pytest.fixture(params=[Vidgate, AsyncVidgate])
def talk(request: pytest.FixtureRequest) -> Iterator[Talk]:
    """Each kind of client."""
    return Talk(request.param)


def test_both_clients_have_the_same_methods() -> None:
    """With the same parameters, so that a program moves from one to the other by an `await`."""
    methods = {name: signature(one) for name, one in vars(Vidgate).items() if not name.startswith("_")}
    others = {name: signature(one) for name, one in vars(AsyncVidgate).items() if not name.startswith("_")}
    assert methods.pop("close").parameters == others.pop("aclose").parameters
    assert {name: one.parameters for name, one in methods.items()} == {
        name: one.parameters for name, one in others.items()
    }


@pytest.mark.parametrize(("fields", "media"), [(VideoFields, "video"), (ImageFields, "image")])
def test_the_fields_for_editors_are_the_vocabulary(fields: Any, media: Any) -> None:
    """Every parameter with every other name, and nothing else."""
    names = {name for one in parameters_for(media) for name in (one.name, *one.aliases)}
    assert set(get_type_hints(fields)) == names | COMMON


def test_a_submission_is_one_multipart_request_under_a_key_of_its_own(talk: Talk, tmp_path: Path) -> None:
    """The picture as a file, texts as they are, everything else as JSON; nothing that is empty."""
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    client = talk.to(answered(202, job("queued")))
    fields = {"frames": 25, "motion": "zoom_in", "base64": True, "routing": {"pin": "a/b"}, "metadata": {}}
    assert talk.run(client.submit_video(picture, **fields)).id == "job_1"
    talk.run(client.submit_video(b"\x89PNG"))
    first, second = talk.seen
    assert (first.method, str(first.url)) == ("POST", "http://gate/generate/video")
    assert first.headers["authorization"] == "Bearer sesame"
    assert b'filename="image"' in first.content
    assert parts(first) == {
        "image": b"\x89PNG",
        "frames": b"25",
        "motion": b"zoom_in",
        "base64": b"true",
        "routing": b'{"pin": "a/b"}',
    }
    keys = {one.headers["idempotency-key"] for one in (first, second)}
    assert len(keys) == 2
    assert min(map(len, keys)) >= 16


def test_a_link_is_sent_as_a_field_and_no_file(talk: Talk) -> None:
    """The gateway then fetches it itself, under its own guard."""
    client = talk.to(answered(202, job("queued")))
    talk.run(client.submit_image("https://x/y.png", idempotency_key="mine"))
    assert parts(talk.seen[0]) == {"image": b"https://x/y.png"}
    assert b"filename" not in talk.seen[0].content
    assert (talk.seen[0].url.path, talk.seen[0].headers["idempotency-key"]) == ("/generate/image", "mine")


def test_a_picture_that_is_not_there_is_told_before_anything_is_sent(talk: Talk) -> None:
    """By the error that Python has for it."""
    with pytest.raises(FileNotFoundError):
        talk.run(talk.to(answered(202, job())).submit_video("no-such.png"))
    assert talk.seen == []


@pytest.mark.parametrize("trouble", [httpx.ConnectError("refused"), httpx.ReadTimeout(""), 429, 502, 503, 504])
def test_what_may_pass_is_repeated_under_the_same_key(talk: Talk, trouble: Any) -> None:
    """A submit whose reply was lost may have been accepted: the key makes the repetition harmless."""
    first = answered(trouble, {}) if isinstance(trouble, int) else trouble
    client = talk.to(first, first, answered(202, job("queued")))
    assert talk.run(client.submit_video(b"x")).status == "queued"
    assert len(talk.seen) == 3
    assert len({one.headers["idempotency-key"] for one in talk.seen}) == 1
    assert talk.time.waits[1] > 0


def test_a_first_request_that_still_runs_is_waited_for(talk: Talk) -> None:
    """409 of that type passes; another 409 does not."""
    running = answered(409, {"type": "https://vidgate.dev/problems/request-in-progress"}, retry_after="2")
    assert talk.run(talk.to(running, answered(202, job())).submit_video(b"x")).id == "job_1"
    assert talk.time.waits[0] >= 2
    with pytest.raises(RefusedError):
        talk.run(talk.to(answered(409, {"type": "https://vidgate.dev/problems/conflict"})).cancel("job_1"))
    assert len(talk.seen) == 3


def test_a_hint_is_obeyed_and_never_early(talk: Talk) -> None:
    """And one that is too long is an error at once instead of a silent hour."""
    talk.run(talk.to(answered(429, {}, retry_after="7"), answered(200, job())).job("job_1"))
    assert talk.time.waits[0] >= 7
    with pytest.raises(RefusedError) as caught:
        talk.run(talk.to(answered(429, {"title": "Later"}, retry_after="3600")).job("job_1"))
    assert (caught.value.status, len(talk.seen)) == (429, 3)


def test_a_hint_that_is_a_date_is_obeyed_too(talk: Talk) -> None:
    """Read against the date of the reply, because the two machines' clocks may differ; without one it is no hint."""
    said, until = "Wed, 25 Nov 2026 16:00:00 GMT", "Wed, 25 Nov 2026 16:00:30 GMT"
    talk.run(talk.to(answered(503, {}, retry_after=until, date=said), answered(200, job())).job("job_1"))
    assert talk.time.waits[0] >= 30
    for hint in ("soon", until):
        talk.run(talk.to(answered(503, {}, retry_after=hint), answered(200, job())).job("job_1"))
    assert max(talk.time.waits[1:]) < 1


def test_repetitions_come_to_an_end(talk: Talk) -> None:
    """As many as were asked for, with growing pauses."""
    with pytest.raises(UnreachableError, match="refused"):
        talk.run(talk.to(httpx.ConnectError("refused"), retries=Retries(most=5)).routes())
    assert len(talk.seen) == 6
    assert talk.time.waits[4] > talk.time.waits[0]
    with pytest.raises(GatewayUnavailableError):
        talk.run(talk.to(answered(503, {}), retries=Retries(most=0)).routes())
    assert len(talk.seen) == 7


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError),
        (401, NotAllowedError),
        (402, BudgetExceededError),
        (403, NotAllowedError),
        (500, GatewayUnavailableError),
    ],
)
def test_a_refusal_is_an_error_of_its_kind_with_the_whole_problem(
    talk: Talk, status: int, kind: type[Exception]
) -> None:
    """Never repeated; title, detail, hint and what speaks against each route."""
    problem = {
        "type": "https://vidgate.dev/problems/no-eligible-route",
        "title": "No route",
        "detail": "see why",
        "hint": "relax fit",
        "refused": [{"route": "a/b", "reasons": ["one", "two"]}],
    }
    with pytest.raises(kind) as caught:
        talk.run(talk.to(answered(status, problem)).submit_video(b"x"))
    error = caught.value
    assert isinstance(error, RefusedError)
    assert str(error).splitlines() == ["No route: see why", "  a/b: one; two"]
    assert (error.kind, error.hint, error.reasons) == ("no-eligible-route", "relax fit", {"a/b": ["one", "two"]})
    assert len(talk.seen) == 1


@pytest.mark.parametrize("body", ["<html>", "[]", "null", '"text"', "{}", '{"refused": null}', '{"refused": ["x"]}'])
def test_an_error_that_is_no_problem_document_is_told_by_its_status(talk: Talk, body: str) -> None:
    """A proxy in between may answer anything."""
    with pytest.raises(RefusedError, match="HTTP 500"):
        talk.run(talk.to(httpx.Response(500, content=body)).routes())


def test_a_video_is_made_in_one_call(talk: Talk) -> None:
    """Submitted, followed and handed back finished; progress is called with every look."""
    client = talk.to(answered(202, job("queued")), answered(200, job("running")), answered(200, job()))
    looks: list[Job] = []
    made = talk.run(client.generate_video(b"x", on_progress=looks.append, motion=90))
    assert [one.status for one in looks] == ["queued", "running", "succeeded"]
    assert (made.succeeded, made.price_micros, made.files[0].num_frames, made.raw) == (True, 182_490, 25, job())


def test_a_gateway_that_restarts_loses_no_job_that_is_followed(talk: Talk) -> None:
    """It is away for longer than any call is repeated, and the job is there when it is back."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return answered(202, job("running"))
        if talk.time.at < 60:
            raise httpx.ConnectError("refused")
        return answered(200, job())

    assert talk.run(talk.to(answer).generate_video(b"x", idempotency_key="mine")).succeeded
    assert talk.seen[0].headers["idempotency-key"] == "mine"
    assert talk.time.at >= 60


def test_a_gateway_that_does_not_come_back_is_an_error_that_has_the_job(talk: Talk) -> None:
    """Nothing is lost: the id is enough to take it up again."""
    client = talk.to(answered(202, job("running")), httpx.ConnectError("refused"))
    with pytest.raises(JobStillRunningError, match="refused") as caught:
        talk.run(client.generate_video(b"x", timeout_s=30))
    assert (caught.value.job.id, talk.time.at >= 30) == ("job_1", True)


@pytest.mark.parametrize(
    "body", ["<html>log in</html>", "[]", "{}", '{"id": 1}', '{"id": "j", "status": "x", "bill": 7}']
)
def test_an_answer_that_is_no_job_is_told_as_such(talk: Talk, body: str) -> None:
    """A proxy's page with 200 is no gateway."""
    with pytest.raises(NotVidgateError, match="no vidgate gateway"):
        talk.run(talk.to(httpx.Response(200, content=body)).job("job_1"))


def test_a_body_that_cannot_be_decoded_is_as_good_as_none(talk: Talk) -> None:
    """It is asked for again, and told as a gateway that cannot be reached."""

    def broken(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Broken(), headers={"content-encoding": "gzip"})

    with pytest.raises(UnreachableError):
        talk.run(talk.to(broken, retries=Retries(most=1)).routes())
    assert len(talk.seen) == 2


def test_a_key_that_cannot_be_one_is_told_at_once(talk: Talk) -> None:
    """Before it breaks the first call."""
    for key in ("schlüssel", "two\nlines"):
        with pytest.raises(ValueError, match="printable ASCII"):
            talk.kind("http://gate", key=key)


@pytest.mark.parametrize("status", ["failed", "canceled", "expired"])
def test_a_job_without_a_result_is_an_error_that_has_the_job(talk: Talk, status: str) -> None:
    """With what the gateway says of it."""
    ended = job(status, result=None, error={"title": "t", "detail": "no route is left"})
    with pytest.raises(JobFailedError, match=f"job_1 {status}: no route is left") as caught:
        talk.run(talk.to(answered(202, ended)).generate_video(b"x"))
    assert caught.value.job.status == status


def test_waiting_has_an_end_and_can_be_taken_up_again(talk: Talk) -> None:
    """The job goes on: its id is enough."""
    client = talk.to(answered(202, job("running")))
    with pytest.raises(JobStillRunningError) as caught:
        talk.run(client.generate_video(b"x", timeout_s=3))
    assert talk.time.at == pytest.approx(3)
    assert talk.run(talk.to(answered(200, job())).wait(caught.value.job.id)).succeeded


def test_a_young_job_is_looked_at_often_and_an_older_one_with_a_call_that_is_held(talk: Talk) -> None:
    """Few calls for a long render, and no stage of a short one missed."""

    def answer(_request: httpx.Request) -> httpx.Response:
        return answered(200, job("succeeded" if talk.time.at > YOUNG_S + 1 else "running"))

    looks = talk.all(talk.to(answer).follow("job_1", timeout_s=1_000))
    waits = [one.headers.get("prefer") for one in talk.seen]
    assert looks[-1].succeeded
    assert (waits[0], waits[-1]) == (None, "wait=2")
    assert waits == sorted(waits, key=lambda wait: wait or "")


def test_a_job_that_has_ended_is_not_asked_for_again(talk: Talk) -> None:
    """No call is made for what is known, nor when there is no time to wait."""
    known = talk.run(talk.to(answered(200, job())).job("job_1"))
    running = talk.run(talk.to(answered(200, job("running"))).job("job_1"))
    assert talk.all(talk.to(httpx.Response(500)).follow(known)) == [known]
    assert talk.all(talk.to(httpx.Response(500)).follow(running, timeout_s=0)) == [running]
    assert len(talk.seen) == 2


def test_a_file_is_written_whole_and_checked(talk: Talk, tmp_path: Path) -> None:
    """Folders are made, a broken transfer is fetched again from its start, and no half file is left."""
    target = tmp_path / "new" / "out.mp4"
    client = talk.to(content(b"vid", digest="0" * 64), httpx.ReadError("reset"), content(b"video"))
    assert talk.run(client.save("job_1", target, 2)) == 5
    assert target.read_bytes() == b"video"
    assert [one.name for one in target.parent.iterdir()] == ["out.mp4"]
    assert talk.seen[0].url.params["file"] == "2"
    assert talk.run(talk.to(content(b"video")).content("job_1")) == b"video"
    weak = httpx.Response(200, content=b"video", headers={"etag": 'W/"' + hashlib.sha256(b"video").hexdigest() + '"'})
    assert talk.run(talk.to(weak).content("job_1")) == b"video"
    assert talk.seen[-1].headers["accept-encoding"] == "identity"


def test_a_file_that_is_damaged_twice_is_no_result(talk: Talk, tmp_path: Path) -> None:
    """What stood at the path before still does."""
    target = tmp_path / "out.mp4"
    target.write_bytes(b"before")
    with pytest.raises(DamagedError):
        talk.run(talk.to(content(b"vid", digest="0" * 64)).save("job_1", target))
    with pytest.raises(RefusedError):
        talk.run(talk.to(answered(410, {"title": "Gone"})).save("job_1", target))
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("out.mp4", b"before")]


def test_the_key_follows_no_redirect(talk: Talk) -> None:
    """Wherever the gateway's address points to, the key goes to that address alone."""
    elsewhere = httpx.Response(307, headers={"location": "http://evil/"})
    with pytest.raises(RefusedError, match="HTTP 307"):
        talk.run(talk.to(elsewhere).routes())
    assert [one.url.host for one in talk.seen] == ["gate"]


def test_quotes_pages_and_cancelling(talk: Talk) -> None:
    """The rest of the resources."""
    assert talk.run(talk.to(answered(200, {"ranked": []})).quote_video(b"x", fps=7)) == {"ranked": []}
    page = {"jobs": [job()], "next_before": "job_1"}
    jobs, following = talk.run(talk.to(answered(200, page)).jobs(limit=1, before="job_9"))
    assert ([one.id for one in jobs], following) == (["job_1"], "job_1")
    assert talk.run(talk.to(answered(202, job("running"))).cancel(jobs[0])).id == "job_1"
    assert [f"{one.method} {one.url.raw_path.decode()}" for one in talk.seen] == [
        "POST /generate/video/quote",
        "GET /jobs?limit=1&before=job_9",
        "POST /jobs/job_1/cancel",
    ]


def test_the_address_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line takes it; what is written in the program goes first."""
    monkeypatch.setenv("VIDGATE_URL", "http://env:1/")
    monkeypatch.setenv("VIDGATE_KEY", "env-key")
    with Vidgate() as client, Vidgate("http://own", key="own-key") as own:
        assert (client._address.url, client._address.key) == ("http://env:1", "env-key")
        assert (own._address.url, own._address.key) == ("http://own", "own-key")


def test_a_job_of_a_newer_or_older_gateway_is_still_read(talk: Talk) -> None:
    """Unknown fields are kept, missing ones are empty."""
    short = {"id": "job_1", "status": "running", "novel": 1}
    found = talk.run(talk.to(answered(200, short)).job("job_1"))
    assert (found.stage, found.files, found.price_micros, found.raw["novel"]) == ("running", (), None, 1)
