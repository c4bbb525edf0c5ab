"""Promise 14: whatever one request is, it costs a bounded amount of memory; the worst known ones, measured."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.pictures import picture
from tests.support.processes import Stand, stand
from tests.support.raw_http import talk

MEBIBYTE = 1024 * 1024
EXTRA_MAX = 32 * MEBIBYTE
BODY = 30 * MEBIBYTE
# A body is there as it came or as text, then as its largest value, and that again in the forms in which it is decoded.
COPIES = 5


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """One gateway with the usual limits, warmed up by an ordinary request, so that what it needs anyway is there."""
    with stand(tmp_path_factory.mktemp("memory"), switches={}, sections={}) as running:
        running.start()
        for _ in range(3):
            image = base64.b64encode(picture()).decode()
            assert running.client.post("/generate/video/quote", json={"image": image}).status_code == 200
        yield running


def extra_bytes(gateway: Stand, act: Callable[[], object]) -> int:
    """How much more memory the gateway's process had at its peak than before, while something was done to it."""
    place = Path(f"/proc/{gateway.children[0].process.pid}")
    (place / "clear_refs").write_text("5")  # the peak begins anew
    before = _kibibytes(place, "VmRSS")
    act()
    return (_kibibytes(place, "VmHWM") - before) * 1024


def _kibibytes(place: Path, name: str) -> int:
    lines = (place / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def head(gateway: Stand, *lines: str, path: str = "/generate/video/quote") -> bytes:
    key = gateway.client.headers["authorization"]
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: gateway", f"Authorization: {key}", *lines, "", ""]).encode()


def png_of(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG that claims this size; with pixels it has them, compressed."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    return b"".join([*parts, chunk(b"IDAT", pixels), chunk(b"IEND", b"")])


def as_picture(data: bytes) -> bytes:
    return json.dumps({"image": base64.b64encode(data).decode()}).encode()


# Small to send, large to whoever believes it.
BOMBS: dict[str, tuple[str, bytes]] = {
    "brackets a hundred thousand deep": ("application/json", b'{"image":' + b"[" * 100_000),
    "a list of a million lists": ("application/json", b'{"image":[' + b"[]," * 1_000_000 + b"[]]}"),
    "three hundred thousand names": (
        "application/json",
        b"{" + b",".join(b'"%d":0' % number for number in range(300_000)) + b"}",
    ),
    "a number of a million digits": ("application/json", b'{"seed":' + b"9" * 1_000_000 + b"}"),
    "the same name again and again": ("application/json", b"{" + b'"a":1,' * 500_000 + b'"a":1}'),
    "half a gigabyte, compressed": ("application/json", gzip.compress(bytes(512 * MEBIBYTE), 9)),
    "a picture of 50,000 by 50,000": ("application/json", as_picture(png_of(50_000, 50_000))),
    "a picture that unpacks to a gigabyte": (
        "application/json",
        as_picture(png_of(2_000, 2_000, zlib.compress(bytes(256 * MEBIBYTE), 9))),
    ),
    "ten thousand parts": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 10_000 + b"--x--\r\n",
    ),
    "a part with a million headers": ("multipart/form-data; boundary=x", b"--x\r\n" + b"a: b\r\n" * 500_000),
    "a part whose header does not end": ("multipart/form-data; boundary=x", b"--x\r\na: " + b"b" * 3_000_000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_no_more_than_a_common_request(gateway: Stand, name: str) -> None:
    """At most 32 MiB more than before; a picture with something behind its pixels is a picture all the same."""
    media_type, body = BOMBS[name]
    statuses: list[int] = []

    def send() -> None:
        headers = {"content-type": media_type}
        statuses.append(gateway.client.post("/generate/video/quote", content=body, headers=headers).status_code)

    extra = extra_bytes(gateway, send)
    assert statuses[0] in {200, 400, 413, 415, 422}
    print(f"{extra / MEBIBYTE:.1f} MiB")
    assert extra <= EXTRA_MAX, f"{extra / MEBIBYTE:.1f} MiB"


def test_an_endless_head_and_a_thousand_requests_at_once_cost_next_to_nothing(gateway: Stand) -> None:
    """Before anything is known of a client it costs at most 32 MiB, whatever it sends."""
    url = str(gateway.client.base_url)
    endless = [b"GET / HTTP/1.1\r\nHost: x\r\nx: ", *[b"a" * 65_536] * 1_600]
    at_once = [b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 20_000]
    for pieces in (endless, at_once):
        extra = extra_bytes(gateway, lambda sent=pieces: talk(url, sent))
        print(f"{extra / MEBIBYTE:.1f} MiB")
    assert extra <= EXTRA_MAX, f"{extra / MEBIBYTE:.1f} MiB"


LARGE: dict[str, tuple[str, bytes, bytes]] = {
    "text where a picture should be": ("application/json", b'{"image":"', b'"}'),
    "a list": ("application/json", b'{"image":[[', b"]]}"),
    "a text part": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n',
        b"",
    ),
    "a file": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n',
        b"\r\n--x--\r\n",
    ),
}


@pytest.mark.parametrize("name", LARGE)
def test_the_largest_body_costs_a_few_times_its_size(gateway: Stand, name: str) -> None:
    """Never a multiple that its content chooses; the sum over all bodies is bounded by `overload.body_bytes_max`."""
    media_type, begin, end = LARGE[name]
    filler = b"0," * (BODY // 2) + b"0" if name == "a list" else b"A" * BODY
    headers = {"content-type": media_type}

    def send() -> None:
        response = gateway.client.post("/generate/video/quote", content=begin + filler + end, headers=headers)
        assert response.status_code in {400, 413, 422}, response.text

    extra = extra_bytes(gateway, send)
    print(f"{name}: {extra / MEBIBYTE:.1f} MiB")
    assert extra <= COPIES * BODY, f"{extra / MEBIBYTE:.1f} MiB"
