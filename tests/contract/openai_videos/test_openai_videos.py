"""A server of OpenAI's `/v1/videos`: declared routes, the form that is sent, every status, both dialects of errors."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email import message_from_bytes
from random import Random
from typing import Any

import av
import httpx
import pytest
from pydantic import ValidationError

from policies.fit import fit
from providers.contract import (
    Accepted,
    Failed,
    FailureKind,
    Finished,
    HasCancel,
    HasLookup,
    InDoubt,
    InlineFile,
    Pending,
    Refused,
    RenderRequest,
    SimulatorTools,
    SourceImage,
    Tools,
)
from providers.openai_videos import PLUGIN
from providers.openai_videos.simulator import SANDBOX_KEY, Server
from tests.contract.modelslab.support import HandClock, Switchboard
from tests.support.pictures import SIZE, picture

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


WAN = {"model": "Wan-AI/Wan2.2-I2V-A14B-Diffusers", "num_frames": [17, 21, 25], "fps": [16], "steps": 40}


@dataclass
class Bench:
    """A simulated server and providers for it; `sent` are the requests that left."""

    server: Server
    clock: HandClock
    http: httpx.AsyncClient
    sent: list[httpx.Request]

    def provider(self, **settings: Any) -> Any:
        section = {"base_url": "http://server:8091", "api_key": SANDBOX_KEY} | settings
        return PLUGIN.build(PLUGIN.settings.model_validate(section), Tools(self.http, self.clock, Random(1)))


@asynccontextmanager
async def bench(**switches: Any) -> AsyncIterator[Bench]:
    board, clock, sent = Switchboard(), HandClock(), []

    async def noted(request: httpx.Request) -> None:
        await request.aread()
        sent.append(request)

    async with httpx.AsyncClient(transport=board, event_hooks={"request": [noted]}) as http:
        server = Server(SimulatorTools("http://server:8091", clock, Random(1), http, {"clip": "cached", **switches}))
        board.apps["server"] = httpx.ASGITransport(server.app())
        yield Bench(server, clock, http, sent)


def request(provider: Any, **written: Any) -> RenderRequest:
    """A request as the gateway makes it."""
    route = provider.routes[0]
    fitted = fit(route, {"width": 80, "height": 64, **written}, mode="exact", image_size=SIZE)
    assert not fitted.refusals, fitted.refusals
    return RenderRequest(route, "att_1", fitted.wire, SourceImage("image/png", *SIZE, data=picture()))


def form_of(sent: httpx.Request) -> dict[str, bytes]:
    """The parts of a multipart body by name."""
    head = f"content-type: {sent.headers['content-type']}\r\n\r\n".encode()
    parts = message_from_bytes(head + sent.content).get_payload()
    assert isinstance(parts, list)
    return {str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True) for part in parts}


async def test_a_clip_is_made_as_ordered() -> None:
    """Frames, rate and size are those of the form; the server's own seconds are told."""
    async with bench() as there:
        provider = there.provider(models={"wan": WAN})
        asked = request(provider, num_frames=21, fps=16, seed=9, prompt="a boat")
        accepted = await provider.submit(asked)
        assert isinstance(accepted, Accepted)
        there.clock.advance(5)
        assert await provider.check(asked.route, accepted.token) == Pending(None, 0.25)
        there.clock.advance(15)
        done = await provider.check(asked.route, accepted.token)
        assert isinstance(done, Finished)
        assert (done.report.inference_s, done.report.model, done.report.cost_micros) == (20.0, None, None)
        (file,) = done.files
        assert isinstance(file, InlineFile)
        with av.open(io.BytesIO(file.data)) as container:
            stream = container.streams.video[0]
            assert (stream.frames, stream.average_rate, stream.width, stream.height) == (21, 16, 80, 64)
        form = form_of(there.sent[0])
        assert form.pop("input_reference") == picture()
        assert {name: value.decode() for name, value in form.items()} == {
            "model": WAN["model"],
            "prompt": "a boat",
            "num_frames": "21",
            "fps": "16",
            "seed": "9",
            "num_inference_steps": "40",
            "width": "80",
            "height": "64",
            "size": "80x64",
        }
        assert there.sent[0].headers["authorization"] == f"Bearer {SANDBOX_KEY}"


async def test_jobs_wait_their_turn() -> None:
    """One after another; the second is queued until the first is done."""
    async with bench() as there:
        provider = there.provider()
        tokens = [(await provider.submit(request(provider))).token for _ in range(2)]
        route = provider.routes[0]
        there.clock.advance(10)
        assert await provider.check(route, tokens[0]) == Pending(None, 0.5)
        assert await provider.check(route, tokens[1]) == Pending(None, 0.0)
        there.clock.advance(30)
        assert isinstance(await provider.check(route, tokens[1]), Finished)


def test_routes_are_what_the_configuration_declares() -> None:
    """Each model with the parameters and values that it takes, and nothing else; a wrong name says which there are."""
    section = {"base_url": "http://server:8091/v1", "models": {"wan": WAN, "ltx": {"parameters": ["prompt", "seed"]}}}
    chosen = PLUGIN.settings.model_validate(section)
    wan, ltx = PLUGIN.routes_of(chosen)
    assert (wan.name, wan.model, ltx.name, ltx.model) == ("openai_videos/wan", WAN["model"], "openai_videos/ltx", "ltx")
    assert {row.parameter for row in ltx.capabilities} == {"prompt", "seed", "resize", "output", "output_format"}
    assert ltx.size is None
    refused = fit(wan, {"num_frames": 14}, mode="exact", image_size=SIZE)
    assert refused.refusals == ("num_frames 14 is not possible here: only 17 or 21 or 25",)
    usual = fit(wan, {}, mode="exact", image_size=SIZE)
    assert (usual.values["num_frames"], usual.values["fps"]) == (17, 16)
    assert usual.values["prompt"] == chosen.models["wan"].prompt
    only = PLUGIN.settings.model_validate({**section, "routes": ["openai_videos/ltx"]})
    assert [route.name for route in PLUGIN.routes_of(only)] == ["openai_videos/ltx"]
    with pytest.raises(ValueError, match="openai_videos/ltx, openai_videos/wan"):
        PLUGIN.routes_of(PLUGIN.settings.model_validate({**section, "routes": ["openai_videos/none"]}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "server:8091"},
        {"models": {}},
        {"models": {"a b": {}}},
        {"models": {"a": {"num_frames": [81]}}},
        {"models": {"a": {"fps": [0]}}},
        {"models": {"a": {"parameters": ["motion"]}}},
        {"models": {"a": {"surprise": 1}}},
    ],
)
def test_a_wrong_declaration_is_refused(wrong: dict[str, Any]) -> None:
    """Before anything is served."""
    with pytest.raises(ValidationError):
        PLUGIN.settings.model_validate({"base_url": "http://server:8091", **wrong})


@pytest.mark.parametrize("errors", ["fastapi", "openai"])
@pytest.mark.parametrize(
    ("switches", "settings", "kind"),
    [
        ({"key": "another"}, {}, FailureKind.UNAUTHORIZED),
        ({"queue_max": 0}, {}, FailureKind.RATE_LIMITED),
    ],
)
async def test_a_refusal_is_read_in_either_dialect(
    errors: str, switches: dict[str, Any], settings: dict[str, Any], kind: FailureKind
) -> None:
    """FastAPI's `detail` and OpenAI's `error` say the same."""
    async with bench(errors=errors, **switches) as there:
        provider = there.provider(**settings)
        first = await provider.submit(request(provider))
        refused = first if isinstance(first, Refused) else await provider.submit(request(provider))
        assert isinstance(refused, Refused)
        assert refused.kind is kind
        assert refused.retry_after_s == (10.0 if kind is FailureKind.RATE_LIMITED else None)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (httpx.Response(422, json={"detail": [{"loc": ["prompt"]}]}), FailureKind.INVALID_REQUEST),
        (httpx.Response(400, json={"error": {"code": "moderation_blocked"}}), FailureKind.MODERATED),
        (httpx.Response(503, json={"error": {"message": "engine is starting"}}), FailureKind.UNAVAILABLE),
        (httpx.Response(503, text="no upstream"), None),
        (httpx.Response(500, text="Internal Server Error"), None),
        (httpx.Response(200, json={"id": "../../other"}), None),
        (httpx.Response(404, text="nginx"), None),
    ],
)
async def test_what_a_proxy_says_is_in_doubt(reply: httpx.Response, kind: FailureKind | None) -> None:
    """Only the server's own word is a refusal, and only a usable id an acceptance."""
    transport = httpx.MockTransport(
        lambda _: httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)
    )
    async with httpx.AsyncClient(transport=transport) as http:
        chosen = PLUGIN.settings.model_validate({"base_url": "http://server"})
        provider = PLUGIN.build(chosen, Tools(http, HandClock(), Random(1)))
        outcome = await provider.submit(request(provider))
    assert isinstance(outcome, InDoubt if kind is None else Refused), outcome
    assert kind is None or (isinstance(outcome, Refused) and outcome.kind is kind)


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("body", [{"detail": "engine died"}, {"error": {"message": "engine died"}}])
async def test_where_a_lost_submit_may_be_billed_a_fault_of_the_server_is_no_refusal(
    status: int, body: dict[str, Any]
) -> None:
    """The job may have been taken before the fault, and a second one would be paid too; a 422 is still a refusal."""
    for lost_submit, answer, expected in (
        ("may_bill", status, InDoubt),
        ("may_bill", 422, Refused),
        ("free", status, Refused),
    ):
        transport = httpx.MockTransport(lambda _, code=answer: httpx.Response(code, json=body))
        async with httpx.AsyncClient(transport=transport) as http:
            chosen = PLUGIN.settings.model_validate({"base_url": "http://server", "lost_submit": lost_submit})
            provider = PLUGIN.build(chosen, Tools(http, HandClock(), Random(1)))
            outcome = await provider.submit(request(provider))
        assert isinstance(outcome, expected), outcome
        assert outcome.status == answer
        assert not isinstance(outcome, InDoubt) or not outcome.unrecognised


@pytest.mark.parametrize(
    ("outcome", "kind"), [("failed", FailureKind.RENDER_FAILED), ("moderated", FailureKind.MODERATED)]
)
async def test_a_failed_job_says_why(outcome: str, kind: FailureKind) -> None:
    """By its code."""
    async with bench(outcome=outcome) as there:
        provider = there.provider()
        token = (await provider.submit(request(provider))).token
        there.clock.advance(20)
        failed = await provider.check(provider.routes[0], token)
        assert isinstance(failed, Failed)
        assert failed.kind is kind


async def test_a_restarted_server_has_lost_its_jobs() -> None:
    """Its store is its memory: the job is made anew elsewhere."""
    async with bench() as there:
        provider = there.provider()
        token = (await provider.submit(request(provider))).token
        there.server.sandbox.change({"restarts": 1})
        failed = await provider.check(provider.routes[0], token)
        assert isinstance(failed, Failed)
        assert failed.kind is FailureKind.LOST


@pytest.mark.parametrize("fault", ["502_before_accept", "html_error", "500", "truncated"])
async def test_a_spoilt_read_is_asked_again(fault: str) -> None:
    """Of the job or of its file."""
    async with bench() as there:
        provider = there.provider()
        token = (await provider.submit(request(provider))).token
        there.clock.advance(20)
        for operation in ("check", "content"):
            if (operation, fault) == ("content", "truncated"):
                continue  # half a file cannot be told from a whole one here: delivery opens it
            there.server.sandbox.script(operation, fault)
            assert isinstance(await provider.check(provider.routes[0], token), InDoubt)
        assert isinstance(await provider.check(provider.routes[0], token), Finished)


async def test_only_a_server_that_stops_can_be_canceled() -> None:
    """A DELETE that leaves the render running is no cancel, so it is said in the configuration."""
    async with bench() as there:
        assert not isinstance(there.provider(), HasCancel | HasLookup)
        provider = there.provider(delete_stops=True)
        assert isinstance(provider, HasCancel)
        token = (await provider.submit(request(provider))).token
        assert await provider.cancel(provider.routes[0], token)
        assert await provider.cancel(provider.routes[0], token)
        assert not await provider.cancel(provider.routes[0], {})
        assert there.server.jobs == {}


def test_what_a_lost_submit_costs_is_the_operators_to_say() -> None:
    """Nothing on one's own machines; a service may bill it."""
    for said in ("free", "may_bill"):
        chosen = PLUGIN.settings.model_validate({"base_url": "http://server", "lost_submit": said})
        assert {route.ambiguous_billing for route in PLUGIN.routes_of(chosen)} == {said}
