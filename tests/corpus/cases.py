"""The hostile files as a table: what each tries, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.corpus.films import FILMS
from tests.corpus.pictures import PICTURES

FOLDER = Path(__file__).parent / "media"
PAGE = Path(__file__).parent / "README.md"
HEAD = """# Hostile files

Written by `python -m tests.corpus --make`; every file is built by pictures.py or films.py and means no harm to anybody.
`make hostile` opens each in the gateway's own workers, as a caller's picture and as a vendor's file, and prints what
came of it and what it cost; tests/corpus/test_corpus.py holds the verdicts below.

| file | what it tries | as a picture | as a result |"""


class Case(NamedTuple):
    """What a file tries, what comes of it as a caller's picture (a reason, or `taken`), and as a vendor's file."""

    tries: str
    picture: str
    delivered: str


CASES: Mapping[str, Case] = {
    "png-50000-square": Case("A header that claims 50,000 x 50,000 pixels.", "too_many_pixels", "bad"),
    "png-flat-25-megapixels": Case("25 megapixels of one colour, with transparency, in 97 kB.", "too_costly", "bad"),
    "png-flat-12-megapixels": Case("12 megapixels of one colour in 36 kB: large, and allowed.", "taken", "opened"),
    "jpeg-65535-square": Case("A header that claims 65,535 x 65,535 pixels.", "too_many_pixels", "bad"),
    "gif-65535-screen": Case("A screen of 65,535 x 65,535 pixels in 35 bytes.", "too_many_pixels", "bad"),
    "gif-frame-larger-than-screen": Case(
        "A small screen, and a picture of 67 megapixels on it.", "too_many_pixels", "bad"
    ),
    "webp-16384-canvas": Case("A canvas of 16,384 x 16,384 pixels, and nothing on it.", "too_many_pixels", "bad"),
    "webp-animation-on-16384-canvas": Case(
        "The same, animated: its reader would keep several canvases.", "too_many_pixels", "bad"
    ),
    "png-idat-bomb": Case("Pixels of 64 x 64 that unpack to 60 MiB.", "taken", "opened"),
    "png-ztxt-bomb": Case("A packed comment of 100 MiB.", "damaged", "bad"),
    "png-itxt-bomb": Case("A packed international comment of 100 MiB.", "damaged", "bad"),
    "png-iccp-bomb": Case("A packed colour profile of 100 MiB.", "damaged", "bad"),
    "gif-lzw-bomb": Case("Codes that repeat the longest string, on 16 megapixels.", "damaged", "bad"),
    "gzip-bomb": Case("100 MiB packed as a gzip file.", "not_an_image", "bad"),
    "png-7000-empty-chunks": Case("7,000 comments of nothing.", "taken", "opened"),
    "png-8000-empty-idats": Case("8,000 parts of the pixels, all empty.", "damaged", "bad"),
    "jpeg-30000-segments": Case("30,000 segments before the picture.", "damaged", "bad"),
    "jpeg-fill-bytes": Case("100,000 bytes of filling where a segment should be.", "truncated", "bad"),
    "jpeg-8000-scans": Case("Nine megapixels gone over 8,000 times, at eleven bytes a time.", "too_costly", "bad"),
    "gif-unterminated": Case("A comment whose blocks never end.", "truncated", "bad"),
    "gif-7000-frames": Case("7,000 frames of one pixel.", "taken", "opened"),
    "apng-1000-frames": Case("An animated PNG of 1,000 frames.", "taken", "opened"),
    "apng-4-billion-frames": Case("An animated PNG that claims 4,294,967,295 frames.", "taken", "opened"),
    "webp-500-frames": Case("An animated WebP of 500 frames.", "taken", "opened"),
    "png-chunk-of-2-gigabytes": Case("A chunk that claims 2 GiB and has three bytes.", "truncated", "bad"),
    "png-negative-chunk": Case("A chunk of -1 bytes.", "damaged", "bad"),
    "png-100-megabyte-header": Case("A first chunk that claims 100 MB.", "truncated", "bad"),
    "png-bad-crc": Case("A wrong checksum over a chunk beside the pixels.", "damaged", "bad"),
    "png-bad-crc-of-pixels": Case("A wrong checksum over the pixels, which browsers forgive.", "taken", "opened"),
    "png-zero-wide": Case("No width.", "damaged", "bad"),
    "png-no-palette": Case("Pixels that name colours of a palette that is not there.", "taken", "opened"),
    "png-depth-of-17": Case("A depth and a kind of colour that do not exist.", "damaged", "bad"),
    "png-interlaced-nonsense": Case("An unknown interlacing over broken pixels.", "damaged", "bad"),
    "jpeg-segment-of-64-kilobytes": Case("A segment that claims more than there is.", "truncated", "bad"),
    "jpeg-segment-shorter-than-itself": Case("Segments of no length, which lead nowhere.", "truncated", "bad"),
    "jpeg-255-components": Case("255 colours a pixel.", "truncated", "bad"),
    "jpeg-bad-huffman": Case("A table of codes that cannot be.", "damaged", "bad"),
    "jpeg-colour-profile-of-255-parts": Case("The first of 255 parts of a colour profile.", "taken", "opened"),
    "jpeg-views-that-are-not-there": Case("A list of further views that lie outside the file.", "taken", "opened"),
    "webp-of-4-gigabytes": Case("A file that claims 4 GiB.", "truncated", "bad"),
    "webp-without-a-picture": Case("A canvas with a profile and metadata of noise, and no picture.", "damaged", "bad"),
    "png-cut-at-a-third": Case("The first third of a file.", "truncated", "bad"),
    "png-cut-at-the-end": Case("All pixels, and no end: whole as far as anybody can see.", "taken", "opened"),
    "jpeg-cut-at-a-tenth": Case("A tenth of a file.", "truncated", "bad"),
    "jpeg-cut-in-the-middle": Case("Six tenths of a file.", "truncated", "bad"),
    "gif-cut": Case("Seven tenths of a file.", "truncated", "bad"),
    "webp-cut": Case("Seven tenths of a file.", "truncated", "bad"),
    "jpeg-exif-loop": Case("Metadata whose directories lead to themselves.", "taken", "opened"),
    "jpeg-exif-4-billion-values": Case("A tag of metadata with 4,294,967,295 values.", "taken", "opened"),
    "png-exif-loop": Case("The same loop in a PNG.", "taken", "opened"),
    "tiff-loop": Case("A TIFF whose directory follows itself.", "unsupported_format", "bad"),
    "jpeg-and-html": Case("A page with a script, in a comment and behind the picture.", "taken", "opened"),
    "gif-and-javascript": Case("A picture that is a script as well.", "taken", "opened"),
    "png-and-zip": Case("An archive behind the picture.", "taken", "opened"),
    "jpeg-and-pdf": Case("A document that runs a script, in a comment.", "taken", "opened"),
    "pdf": Case("A document that runs a script.", "unsupported_format", "bad"),
    "svg": Case("Markup with a script, and an entity that names a file.", "not_an_image", "bad"),
    "mvg": Case("Drawing commands that fetch an address and run a program.", "not_an_image", "bad"),
    "postscript": Case("A program that opens a pipe.", "not_an_image", "bad"),
    "icon-of-65535-pictures": Case("An icon that claims 65,535 pictures of 2 GiB.", "unsupported_format", "bad"),
    "bitmap-2-billion-wide": Case("A bitmap of 2,147,483,647 x 2,147,483,647 pixels.", "unsupported_format", "bad"),
    "heic": Case("A kind that is not taken, recognised.", "unsupported_format", "bad"),
    "empty": Case("No byte at all.", "empty", "bad"),
    "mp4-cut-in-the-index": Case("The first part of the index.", "unsupported_format", "bad"),
    "mp4-cut-in-the-pictures": Case("All but the last 200 bytes.", "unsupported_format", "bad"),
    "mp4-cut-before-the-pictures": Case("The index, and none of what it lists.", "unsupported_format", "bad"),
    "mp4-index-of-4-gigabytes": Case("An index that claims 4 GiB, around a true one.", "unsupported_format", "opened"),
    "mp4-index-of-100-megabytes": Case(
        "An index that claims 100 MB and is 90 kB of zeros.", "unsupported_format", "bad"
    ),
    "mp4-negative-box": Case("A box of -1 bytes.", "unsupported_format", "bad"),
    "mp4-box-of-nothing": Case("Boxes of no size, which lead nowhere.", "unsupported_format", "bad"),
    "mp4-4-billion-samples": Case("A table of 4,294,967,295 sizes that has five.", "unsupported_format", "bad"),
    "mp4-100-million-samples-of-a-size": Case(
        "100,000,000 samples of a byte each, by one number.", "unsupported_format", "bad"
    ),
    "mp4-sample-of-2-gigabytes": Case("A picture of 2 GiB.", "unsupported_format", "bad"),
    "mp4-pictures-out-of-the-file": Case("Pictures that lie behind the end.", "unsupported_format", "bad"),
    "mp4-4-billion-chunks": Case("A list of 4,294,967,295 places that has one.", "unsupported_format", "opened"),
    "mp4-times-without-end": Case("4,294,967,295 pictures of 4,294,967,295 ticks.", "unsupported_format", "bad"),
    "mp4-no-duration": Case("Pictures that are shown for no time.", "unsupported_format", "opened"),
    "mp4-no-time-scale": Case("A clock without ticks.", "unsupported_format", "bad"),
    "mp4-4-billion-edits": Case("A list of 4,294,967,295 edits that has one.", "unsupported_format", "opened"),
    "mp4-8000-edits": Case("A film that is played over 8,000 times.", "unsupported_format", "bad"),
    "mp4-4-billion-groups": Case("4,294,967,295 groups of samples.", "unsupported_format", "bad"),
    "mp4-4-billion-keyframes": Case("4,294,967,295 key frames.", "unsupported_format", "bad"),
    "mp4-1000-fragments": Case("1,000 fragments of pictures that are not there.", "unsupported_format", "bad"),
    "mp4-fragment-of-200-million-samples": Case("One fragment of 200,000,000 samples.", "unsupported_format", "bad"),
    "mp4-fragments-of-a-million-samples": Case("300 fragments of 1,000,000 samples each.", "unsupported_format", "bad"),
    "mp4-nested-5000-deep": Case("5,000 boxes in one another.", "unsupported_format", "bad"),
    "mov-packed-index-of-a-gigabyte": Case("A packed index that asks for 1 GiB.", "unsupported_format", "bad"),
    "mov-packed-index-of-50-megabytes": Case("A packed index that asks for 50 MB.", "unsupported_format", "bad"),
    "mp4-audio-alone": Case("Sound without pictures.", "unsupported_format", "bad"),
    "mp4-unknown-codec": Case("Pictures in a codec that does not exist.", "unsupported_format", "bad"),
    "mp4-old-codec": Case("Pictures in a codec of 1991, whose reader stays shut.", "unsupported_format", "bad"),
    "mp4-60000-square": Case(
        "An index that claims 60,000 x 60,000 pixels over small pictures, whose own size counts.",
        "unsupported_format",
        "opened",
    ),
    "mp4-pictures-of-noise": Case("An honest index over noise.", "unsupported_format", "bad"),
    "mp4-parameters-of-noise": Case("Noise where the decoder is set up.", "unsupported_format", "bad"),
    "mkv": Case("A kind that is not delivered.", "unsupported_format", "bad"),
    "avi": Case("A kind that is not delivered.", "not_an_image", "bad"),
    "error-page": Case("What a server sends in place of a film.", "not_an_image", "bad"),
    "names-playlist": Case("A playlist (HLS) that names an address and a file.", "not_an_image", "bad"),
    "names-concat": Case("A list of FFmpeg's that names an address and a file.", "not_an_image", "bad"),
    "names-session-description": Case("A session description (SDP) that names an address.", "not_an_image", "bad"),
    "names-manifest": Case("A manifest (DASH) that names an address and a file.", "not_an_image", "bad"),
    "names-playlist-in-a-film": Case("A playlist in a box of a film.", "unsupported_format", "bad"),
    "names-playlist-as-a-brand": Case("A playlist that begins as a film does.", "unsupported_format", "bad"),
    "names-concat-in-a-film": Case("A list of FFmpeg's in place of pictures.", "unsupported_format", "bad"),
    "names-film-that-lies-elsewhere": Case(
        "A film whose pictures are said to lie behind an address.", "unsupported_format", "bad"
    ),
    "names-film-that-lies-in-a-file": Case(
        "A film whose pictures are said to lie in a file of this machine.", "unsupported_format", "bad"
    ),
    "names-playlist-in-a-gif": Case("A playlist that begins as a GIF does.", "too_many_pixels", "bad"),
}


def builders() -> dict[str, Callable[[], bytes]]:
    """How each file is made."""
    return {**PICTURES, **FILMS}


def read(name: str) -> bytes:
    """A file of the corpus."""
    return (FOLDER / name).read_bytes()


def page() -> str:
    """The page that goes with the files."""
    rows = (f"| `{name}` | {case.tries} | {case.picture} | {case.delivered} |" for name, case in CASES.items())
    return "\n".join([HEAD, "|---|---|---|---|", *rows, ""])
