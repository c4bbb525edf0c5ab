"""Where events may be sent: the guard of foreign URLs stands before every webhook."""

from __future__ import annotations

import asyncio

import pytest

from gateway.outbound import OutboundError, Posted
from tests.unit.outbound_support import PUBLIC, Wire, answer, guarded, resolver

NAMES = resolver({"hook.test": [PUBLIC], "inside.test": ["10.0.0.7"], "rebound.test": [PUBLIC, "169.254.169.254"]})


def posted(wire: Wire, url: str) -> Posted | OutboundError:
    """What came of handing a body to a URL through the real guard."""

    async def once() -> Posted | OutboundError:
        outbound = guarded(wire, resolve=NAMES)
        try:
            return await outbound.post(url, b"{}", {"webhook-id": "evt_1"}, 5.0)
        except OutboundError as error:
            return error
        finally:
            await outbound.close()

    return asyncio.run(once())


@pytest.mark.parametrize(
    "url",
    [
        "https://inside.test/in",
        "https://rebound.test/in",
        "https://127.0.0.1/in",
        "https://[::ffff:a9fe:a9fe]/in",
        "https://hook.test:22/in",
        "http://hook.test/in",
        "https://u:p@hook.test/in",
        "file:///etc/passwd",
    ],
)
def test_no_event_goes_to_a_private_place(url: str) -> None:
    """Webhook targets pass the same guard as every foreign URL: nothing is connected to."""
    wire = Wire()
    assert isinstance(posted(wire, url), OutboundError)
    assert wire.connects == []


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """One connection, one POST; where the receiver points to is not asked."""
    wire = Wire(scripts=((answer("307 Temporary Redirect", "Location: https://inside.test/", "Retry-After: 9"),),))
    assert posted(wire, "https://hook.test/in") == Posted(307, "9")
    assert wire.connects == [(PUBLIC, 443)]
    assert b"".join(wire.sent).startswith(b"POST /in HTTP/1.1")
    assert b"webhook-id: evt_1" in b"".join(wire.sent)


def test_a_receiver_that_is_not_there_is_a_failed_try() -> None:
    """As an error with words, never an exception of the client."""
    outcome = posted(Wire(dead=frozenset({PUBLIC})), "https://hook.test/in")
    assert isinstance(outcome, OutboundError)
    assert outcome.reason == "unreachable"
