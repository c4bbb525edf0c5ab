"""What one side of the socket says is read as data, within bounds, or not at all."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.media.framing import BrokenFrame, receive, send

DATA_BYTES_MAX = 100_000
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))


def heard(words: bytes) -> tuple[dict[str, object], bytes]:
    """What is made of these bytes, after which the other side ends."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(words)
        return receive(ours, DATA_BYTES_MAX)


@settings(max_examples=30)
@given(st.dictionaries(st.text(), JSON, max_size=4), st.binary(max_size=2000))
def test_a_frame_comes_as_it_was_sent(header: dict[str, object], data: bytes) -> None:
    """Any plain values and any bytes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, header, data)
        assert receive(theirs, DATA_BYTES_MAX) == (header, data)


def test_a_frame_larger_than_the_socket_holds_comes_whole() -> None:
    """Megabytes are read in parts."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=send, args=(ours, {}, bytes(range(256)) * 20_000))
        sender.start()
        assert receive(theirs, 10_000_000) == ({}, bytes(range(256)) * 20_000)
        sender.join(10)


@pytest.mark.parametrize(
    "words",
    [
        b"nonsense, and more of it",
        b"\x00\x00\x00\x04" + bytes(8) + b"{{{{",
        b"\x00\x00\x00\x02" + bytes(8) + b"[]",
        b"\x00\x00\xff\xff" + bytes(8) + b"[" * 0xFFFF,
        b"\x00\x00\x00\x01" + bytes(8) + b"\xff",
        b"\xff\xff\xff\xff" + bytes(8),
        b"\x00\x00\x00\x02" + b"\xff" * 8 + b"{}",
        b"\x00\x00\x00\x02" + (DATA_BYTES_MAX + 1).to_bytes(8, "big") + b"{}",
    ],
    ids=lambda words: repr(words)[:30],
)
def test_what_is_no_frame_is_broken(words: bytes) -> None:
    """No JSON, no object, too deep, or larger than allowed: refused before any of it is waited for."""
    with pytest.raises(BrokenFrame):
        heard(words)


@pytest.mark.parametrize("words", [b"", b"\x00\x00", b"\x00\x00\x00\x02" + bytes(8) + b"{"])
def test_a_frame_that_is_cut_off_has_ended(words: bytes) -> None:
    """The other side is gone; what it had begun to say is not taken for a frame."""
    with pytest.raises(EOFError):
        heard(words)


@settings(max_examples=60)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_an_error(words: bytes) -> None:
    """A worker that was taken over can say anything; the gateway has two errors for it."""
    try:
        header, data = heard(words)
    except (BrokenFrame, EOFError):
        return
    assert isinstance(header, dict)
    assert len(data) <= DATA_BYTES_MAX
