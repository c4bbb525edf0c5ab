"""What a picture carries beside its pixels stays here: nothing planted in one is in any byte that a vendor receives."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms, PngImagePlugin

from tests.corpus.bytes import chunk, segment
from tests.e2e.conftest import Begin
from tests.support.vendors import World

pytestmark = pytest.mark.anyio
MARK = b"PLANTED"
SIZE = (96, 64)
# Routes that take the picture in the body, as a link, and from vendors of each kind.
ROUTES = {
    "segmind/svd": {},
    "segmind/svd-sync": {},
    "modelslab/svd": {"width": 96, "height": 64},
    "local/svd": {"width": 128, "height": 64},
}


def upright() -> Image.Image:
    """A picture whose four corners differ, so that no turn of it looks like another."""
    image = Image.new("RGB", SIZE, (90, 90, 90))
    for box, colour in (
        ((0, 0, 48, 32), (220, 30, 30)),
        ((48, 0, 96, 32), (30, 200, 30)),
        ((0, 32, 48, 64), (40, 40, 220)),
    ):
        image.paste(colour, box)
    return image


def lying() -> Image.Image:
    """The same as a camera that was held sideways stores it, with orientation 6."""
    return upright().transpose(Image.Transpose.ROTATE_90)


def exif() -> Image.Exif:
    """A camera's notes: its maker, its owner, the place, and how it was held."""
    made = Image.Exif()
    made[0x0112] = 6
    for tag in (0x010F, 0x013B, 0x8298, 0x9286):
        made[tag] = f"PLANTED-{tag:x}"
    made.get_ifd(0x8825)[1] = "N"
    made.get_ifd(0x8825)[0x1D] = "PLANTED-gps"
    made.get_ifd(0x8769)[0x927C] = b"PLANTED-maker-note"
    return made


def profile() -> bytes:
    """A true colour profile whose description is planted."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = made.replace("sRGB built-in".encode("utf-16-be"), "PLANTED-icc!!".encode("utf-16-be"))
    assert named != made
    return named


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>PLANTED-xmp</rdf:RDF></x:xmpmeta>'
IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x14\x1c\x02\x69\0\x0fPLANTED-caption"


def jpeg() -> bytes:
    """Every kind of segment in which something may be written, a second view, and bytes behind the end."""
    target = io.BytesIO()
    lying().save(target, "JPEG", quality=95, exif=exif(), icc_profile=profile(), comment=b"PLANTED-comment", xmp=XMP)
    whole = target.getvalue()
    more = segment(0xED, IPTC) + segment(0xEB, b"JP\0\0PLANTED-c2pa") + segment(0xE4, b"PLANTED-app4")
    more += segment(0xE2, b"MPF\0PLANTED-mpf") + segment(0xEC, b"Ducky\0PLANTED")
    return whole[:2] + more + whole[2:] + b"PLANTED-tail" + whole


def png() -> bytes:
    """Every chunk that holds words, a private one, a second frame, and bytes behind the end."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", "PLANTED-text")
    texts.add_text("Author", "PLANTED-packed" * 9, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    target = io.BytesIO()
    lying().save(target, "PNG", exif=exif(), icc_profile=profile(), pnginfo=texts)
    whole = target.getvalue()
    frame = struct.pack(">IIIIIHHBB", 0, 64, 96, 0, 0, 1, 7, 0, 0)
    animated = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", frame) + chunk(b"prVt", b"PLANTED-private")
    return whole[:33] + animated + whole[33:] + b"PLANTED-tail"


def webp() -> bytes:
    """Metadata, an unknown chunk and bytes behind the end."""
    target = io.BytesIO()
    lying().save(target, "WEBP", quality=95, exif=exif(), xmp=XMP, icc_profile=profile())
    whole = target.getvalue() + b"PRVT" + struct.pack("<I", 16) + b"PLANTED-private!"
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:] + b"PLANTED-tail"


def gif() -> bytes:
    """A comment, notes of a program, words to be shown, a second picture, and bytes behind the end."""
    target = io.BytesIO()
    upright().save(target, "GIF", comment=b"PLANTED-comment", save_all=True, append_images=[Image.new("RGB", SIZE)])
    whole = target.getvalue()
    blocks = b"!\xff\x0bXMP DataXMP\x0cPLANTED-xmp!\x00" + b"!\x01\x0c" + bytes(12) + b"\x0dPLANTED-words\x00"
    return whole[:-1] + blocks + b";PLANTED-tail"


KINDS: Mapping[str, Callable[[], bytes]] = {"jpeg": jpeg, "png": png, "webp": webp, "gif": gif}


def unfolded(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """Some bytes, and what is packed into them: base64 in JSON, and what zlib packs in a picture."""
    yield data
    if depth:
        for text in re.findall(rb"[A-Za-z0-9+/=]{200,}", data):
            yield from unfolded(base64.b64decode(text + b"=" * (-len(text) % 4)), depth - 1)
        for start in (found.start() for found in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", data)):
            try:
                yield from unfolded(zlib.decompressobj().decompress(data[start:], 1_000_000), depth - 1)
            except zlib.error:
                continue


def planted(data: bytes) -> bool:
    """Whether something that was planted is in these bytes, in one-byte or two-byte letters, packed or not."""
    wide = MARK.decode().encode("utf-16-be")
    return any(MARK in part or wide in part for part in unfolded(data))


def heard(world: World) -> list[bytes]:
    """Everything that was sent to the vendors, and what they fetched."""
    taps = [vendor.tap for vendor in world.vendors.values()]
    return [body for tap in taps for _, _, body in tap.calls] + [
        path.encode() for tap in taps for _, path, _ in tap.calls
    ]


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")  # as a server has it: no error
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_planted_would_be_seen(kind: str) -> None:
    """The test below can fail: the picture as it was sent is full of marks, also inside JSON."""
    data = KINDS[kind]()
    assert planted(data)
    assert planted(json.dumps({"image": base64.b64encode(data).decode()}).encode())
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()
        assert opened.size == (SIZE if kind == "gif" else SIZE[::-1])


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_planted_in_a_picture_reaches_a_vendor(begin: Begin, kind: str) -> None:
    """By every way in which a vendor gets a picture; what arrives stands upright."""
    world = await begin(sections={"segmind": {}, "modelslab": {}, "local": {}})
    for route, wanted in ROUTES.items():
        job = await world.made(pin=route, file=KINDS[kind](), **wanted)
        assert job["status"] == "succeeded", job
        bodies = heard(world)
        assert sum(len(body) for body in bodies) > 100
        assert [body[:80] for body in bodies if planted(body)] == []
        assert not planted(json.dumps(job).encode())
        if route.startswith(("segmind", "modelslab")):
            got = world.vendors[route.partition("/")[0]].picture()
            assert not planted(got)
            assert apart(got) < 40


def apart(got: bytes) -> float:
    """The largest mean difference of a colour between what a vendor read and the upright picture."""
    with Image.open(io.BytesIO(got)) as opened:
        assert opened.size == SIZE
        assert not {"exif", "xmp", "icc_profile", "comment", "XML:com.adobe.xmp"} & set(opened.info)
        difference = ImageChops.difference(opened.convert("RGB"), upright())
    means: list[Any] = [
        sum(value * count for value, count in enumerate(band.histogram())) for band in difference.split()
    ]
    return max(mean / (SIZE[0] * SIZE[1]) for mean in means)
