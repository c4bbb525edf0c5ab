"""What every provider must keep, whoever wrote it: one suite over all installed ones and the example of the docs."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.media.verify import inspect_media
from gateway.money.prices import PriceBook
from gateway.vendor_transport import VendorTransport
from policies.fit import allows
from providers.capability import Route
from providers.contract import (
    Accepted,
    Balance,
    Failed,
    Finished,
    HasBalance,
    InDoubt,
    InlineFile,
    Pending,
    ProviderPlugin,
    Refused,
    Token,
    Tools,
)
from providers.serving import listen
from providers.vocabulary import BY_NAME
from tests.contract.every_provider import (
    BOOKS,
    NOW,
    POLLED,
    READ_FAULTS,
    REMOTE,
    ROUTES,
    SUBMIT_FAULTS,
    EagerClock,
    answered,
    build,
    each_oddity,
    each_plugin,
    fault_in,
    finished,
    order,
    over,
    overheard,
    section,
    spoilt,
    vendor_that,
    world,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


# The tables


@over(ROUTES)
def test_a_table_speaks_the_vocabulary_and_stays_inside_it(plugin: ProviderPlugin, route: Route) -> None:
    """A row names a known parameter once, narrows its range and never widens it, and no two rows share a field."""
    wires = [row.wire for row in route.capabilities if row.wire is not None] + [route.image_name]
    assert len(set(wires)) == len(wires)
    assert len({row.parameter for row in route.capabilities}) == len(route.capabilities)
    for row in route.capabilities:
        parameter = BY_NAME[row.parameter]
        assert route.media in parameter.media
        assert (row.wire is not None) == (row.by == "vendor")
        assert not parameter.choices or {*row.allowed, *row.spelling} <= set(parameter.choices)
        numbers = [value for value in (row.minimum, row.maximum, *row.allowed) if isinstance(value, int | float)]
        low, high = parameter.minimum, parameter.maximum
        assert low is None or all(value >= low for value in numbers)
        assert high is None or all(value <= high for value in numbers)
        assert row.default is None or allows(row, row.default)


@over(ROUTES)
def test_a_route_says_what_routing_needs(plugin: ProviderPlugin, route: Route) -> None:
    """Its name begins with its provider's, it takes a picture in some form, its time is known, and it has a price."""
    assert route.provider == plugin.name
    assert route.name.startswith(f"{plugin.name}/")
    assert len(set(route.image_forms)) == len(route.image_forms) > 0
    assert route.latency_nominal_s > 0
    assert route.summary
    assert route.concurrency_max is None or route.concurrency_max > 0
    assert PriceBook.seeded(*BOOKS).missing([route.name], NOW) == []


# The settings


@each_plugin
def test_a_misspelt_setting_is_refused(plugin: ProviderPlugin) -> None:
    """A section with an unknown key does not start; the same one without it does."""
    good = section(plugin, "http://vendor.example")
    plugin.settings.model_validate(good)
    with pytest.raises(ValidationError, match="surprise"):
        plugin.settings.model_validate({**good, "surprise": 1})


@each_plugin
def test_a_simulator_comes_with_the_settings_that_point_at_it(plugin: ProviderPlugin) -> None:
    """Whoever can be simulated can be configured for it, and no key of that shows in the settings' text."""
    assert (plugin.simulator is None) == (plugin.simulator_settings is None)
    good = section(plugin, "http://vendor.example")
    shown = repr(plugin.settings.model_validate(good))
    assert not [value for name, value in good.items() if "key" in name and str(value) in shown]


@each_plugin
async def test_each_route_can_be_switched_on_alone_and_an_unknown_one_is_refused(plugin: ProviderPlugin) -> None:
    """`routes` names what an account offers; a name that is not in the catalogue says which are."""
    tools = Tools(httpx.AsyncClient(transport=httpx.MockTransport(_unreachable)), EagerClock(), Random(1))
    for route in plugin.catalogue:
        chosen = plugin.settings.model_validate({**section(plugin, "http://x.example"), "routes": [route.name]})
        assert [one.name for one in plugin.build(chosen, tools).routes] == [route.name]
    wrong = {**section(plugin, "http://x.example"), "routes": ["nowhere/none"]}
    with pytest.raises(ValueError, match="nowhere/none"):
        plugin.build(plugin.settings.model_validate(wrong), tools)


def _unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("there is no vendor in this test", request=request)


# A whole job


@over(ROUTES)
async def test_a_whole_job_ends_in_a_file_of_the_ordered_kind(plugin: ProviderPlugin, route: Route) -> None:
    """From the submit to bytes that open, with a token that survives JSON in between and the model that was ordered."""
    async with world(plugin) as there:
        done, _ = await finished(there, route)
        file = done.files[0]
        data = file.data if isinstance(file, InlineFile) else (await there.http.get(file.url)).content
    info = inspect_media(data)
    assert (info.num_frames > 1) == (route.media == "video")
    assert done.report.model in {None, route.model}


# Whatever the vendor says


fuzzed = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


async def submitted(plugin: ProviderPlugin, route: Route, reply: httpx.Response) -> None:
    """A submit answered like this is a typed outcome, and what was accepted can be stored and asked about."""
    outcome = await answered(plugin, reply, lambda provider: provider.submit(order(route)))
    assert isinstance(outcome, Finished | Accepted | Refused | InDoubt)
    assert not fault_in(outcome)
    if isinstance(outcome, Accepted):
        await checked(plugin, route, reply, json.loads(json.dumps(outcome.token)))


async def checked(plugin: ProviderPlugin, route: Route, reply: httpx.Response, token: Token) -> None:
    """A check answered like this is a typed outcome, and so is the balance."""
    outcome = await answered(plugin, reply, lambda provider: provider.check(route, token))
    assert isinstance(outcome, Pending | Finished | Failed | InDoubt)
    assert not fault_in(outcome)
    assert isinstance(await answered(plugin, reply, _balance), Balance | None)


async def _balance(provider: Any) -> Balance | None:
    return await provider.balance() if isinstance(provider, HasBalance) else None


@over(REMOTE)
@fuzzed
@given(data=st.data())
def test_any_reply_to_a_submit_is_a_typed_outcome(plugin: ProviderPlugin, route: Route, data: st.DataObject) -> None:
    """Whatever status, headers and body come back, nothing raises."""
    said, _ = overheard(plugin.name, route.name)
    asyncio.run(submitted(plugin, route, data.draw(spoilt(said))))


@over(POLLED)
@fuzzed
@given(data=st.data())
def test_any_reply_to_a_check_is_a_typed_outcome(plugin: ProviderPlugin, route: Route, data: st.DataObject) -> None:
    """Whatever status, headers and body come back, nothing raises."""
    said, token = overheard(plugin.name, route.name)
    assert token is not None
    asyncio.run(checked(plugin, route, data.draw(spoilt(said)), token))


@over(REMOTE)
def test_no_odd_value_anywhere_in_a_real_reply_raises(plugin: ProviderPlugin, route: Route) -> None:
    """Every field of what the vendor really says, with every odd value in turn: numbers too large, texts as links."""
    said, token = overheard(plugin.name, route.name)

    async def sweep() -> int:
        replies = [reply for one in said for reply in each_oddity(one)]
        for reply in replies:
            await submitted(plugin, route, reply)
            if token is not None:
                await checked(plugin, route, reply, token)
        return len(replies)

    assert asyncio.run(sweep()) or all(not one.body.startswith(b"{") for one in said)


# The wire, over the transport that the gateway uses


@pytest.mark.parametrize("fault", SUBMIT_FAULTS)
@over(REMOTE)
async def test_a_submit_whose_reply_is_lost_is_in_doubt(plugin: ProviderPlugin, route: Route, fault: str) -> None:
    """Once the request has left, no fault of the wire makes it look as if it had not."""
    async with (
        vendor_that(SUBMIT_FAULTS[fault]) as url,
        httpx.AsyncClient(transport=VendorTransport(), trust_env=False) as http,
    ):
        timeout_s = 0.1 if fault == "timeout" else 20.0
        outcome = await build(plugin, url, http).submit(order(route, timeout_s=timeout_s))
    assert isinstance(outcome, InDoubt), outcome


@pytest.mark.parametrize("fault", READ_FAULTS)
@over(POLLED)
async def test_no_fault_of_the_wire_ends_an_accepted_job(plugin: ProviderPlugin, route: Route, fault: str) -> None:
    """A spoilt check says nothing about the job: it is asked again."""
    async with world(plugin) as there:
        accepted = await there.provider.submit(order(route, there.picture_url))
    assert isinstance(accepted, Accepted)
    async with (
        vendor_that(READ_FAULTS[fault]) as url,
        httpx.AsyncClient(transport=VendorTransport(), trust_env=False) as http,
    ):
        outcome = await build(plugin, url, http).check(route, accepted.token)
    assert isinstance(outcome, InDoubt | Pending), outcome
    assert isinstance(outcome, Pending) or not outcome.gone


@over(REMOTE)
async def test_a_vendor_that_cannot_be_reached_was_sent_nothing(plugin: ProviderPlugin, route: Route) -> None:
    """A refused connection is a refusal, so that the next route may be tried at once."""
    listener, url = listen()
    listener.close()
    async with httpx.AsyncClient(transport=VendorTransport(), trust_env=False) as http:
        outcome = await build(plugin, url, http).submit(order(route))
    assert isinstance(outcome, Refused), outcome
    assert outcome.kind == "unavailable"
