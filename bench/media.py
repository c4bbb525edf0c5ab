"""What it costs to open strangers' files in processes of their own, beside opening them on a thread of the gateway.

    python bench/media.py [--rounds 5] [--files 40]

Both ways take turns on the same files in the same run: one file after the other, and as many at once as there are
workers. The figures are wall time a file, and the ratio of the two ways.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from PIL import Image, ImageFilter
from rich.console import Console
from rich.table import Table

from gateway.media.decoders import Decoders
from gateway.media.intake import read_image
from gateway.media.verify import inspect_media
from gateway.media.workers import Workers
from providers.rendering import camera_move, encode

SIZE = (1024, 576)
Open = Callable[[], Awaitable[object]]


def still() -> Image.Image:
    """A picture with structure, such as a model makes."""
    return Image.effect_noise(SIZE, 80).filter(ImageFilter.GaussianBlur(4)).convert("RGB")


def jpeg(image: Image.Image) -> bytes:
    """The picture as a camera saves it."""
    target = io.BytesIO()
    image.save(target, "JPEG", quality=90)
    return target.getvalue()


async def timed(one: Open, files: int, at_once: int) -> float:
    """Milliseconds of wall time a file, with so many open together."""
    gate = asyncio.Semaphore(at_once)

    async def open_one() -> None:
        async with gate:
            await one()

    began = time.perf_counter()
    await asyncio.gather(*(open_one() for _ in range(files)))
    return (time.perf_counter() - began) / files * 1000


async def compare(rounds: int, files: int) -> Table:
    """Both ways, in rounds that take turns."""
    workers = Workers()
    decoders, threads = Decoders(workers), ThreadPoolExecutor(workers.size)
    picture = jpeg(still())
    clip = encode(camera_move(still(), move="pan_left", speed=1, num_frames=14), fps=7)
    loop = asyncio.get_running_loop()
    ways: dict[str, tuple[Open, Open]] = {
        "picture taken in": (
            lambda: loop.run_in_executor(threads, read_image, picture),
            lambda: decoders.take_in(picture),
        ),
        "clip of 14 frames inspected": (
            lambda: loop.run_in_executor(threads, inspect_media, clip),
            lambda: decoders.inspect(clip),
        ),
    }
    began = time.perf_counter()
    await workers.warm()
    started_s = time.perf_counter() - began
    table = Table(title=f"1024x576, {workers.size} workers; the first was started in {started_s:.2f} s")
    for column in ("", "at once", "thread, ms", "process, ms", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name, (here, apart) in ways.items():
        for at_once in (1, workers.size):
            await timed(apart, at_once, at_once)
            times = [(await timed(here, files, at_once), await timed(apart, files, at_once)) for _ in range(rounds)]
            ratio = median(there / thread for thread, there in times)
            figures = (median(thread for thread, _ in times), median(there for _, there in times))
            table.add_row(name, str(at_once), *(f"{figure:.1f}" for figure in figures), f"{ratio:.2f}")
    await workers.close()
    return table


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=40)
    given = parser.parse_args()
    Console().print(asyncio.run(compare(given.rounds, given.files)))


if __name__ == "__main__":
    main()
