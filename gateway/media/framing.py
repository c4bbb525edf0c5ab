"""How the gateway and its decoding processes talk: a JSON object and raw bytes, each with its length and a bound.

What the other side says is data and nothing else: it is never unpickled, and no name in it is looked up.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any

HEADER_BYTES_MAX = 64 * 1024
READ_BYTES = 1024 * 1024
_LENGTHS = struct.Struct(">IQ")


class BrokenFrame(Exception):
    """What came is no frame, or a larger one than allowed."""


def send(channel: socket.socket, header: Mapping[str, Any], data: bytes = b"") -> None:
    """Send a frame. Raises OSError when the other side is gone."""
    text = json.dumps(header).encode()
    channel.sendall(_LENGTHS.pack(len(text), len(data)) + text)
    if data:
        channel.sendall(data)


def receive(channel: socket.socket, data_bytes_max: int) -> tuple[dict[str, Any], bytes]:
    """Receive a frame. Raises BrokenFrame, EOFError where the other side ended, and OSError."""
    header_bytes, data_bytes = _LENGTHS.unpack(_exactly(channel, _LENGTHS.size))
    if header_bytes > HEADER_BYTES_MAX or data_bytes > data_bytes_max:
        raise BrokenFrame(f"{header_bytes} bytes of header and {data_bytes} of data")
    try:
        header = json.loads(_exactly(channel, header_bytes))
    except (ValueError, RecursionError) as error:
        raise BrokenFrame("the header is not JSON") from error
    if not isinstance(header, dict):
        raise BrokenFrame("the header is not an object")
    return header, _exactly(channel, data_bytes)


def _exactly(channel: socket.socket, size_bytes: int) -> bytes:
    """So many bytes; memory is taken as they come, not as they are announced."""
    received = bytearray()
    while len(received) < size_bytes:
        part = channel.recv(min(size_bytes - len(received), READ_BYTES))
        if not part:
            raise EOFError(f"ended after {len(received)} of {size_bytes} bytes")
        received += part
    return bytes(received)
