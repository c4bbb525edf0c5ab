"""Draws the demonstration picture, a mountain lake at dusk, always the same: python examples/scene.py [FILE].

It has near and far, fine texture and straight edges, so that every camera move is plain to see.
"""

from __future__ import annotations

import math
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter

SIZE = (1024, 576)
WIDTH, HEIGHT = SIZE[0] * 2, SIZE[1] * 2  # drawn at twice the size, for smooth edges
HORIZON = 690
SUN = (1330, 560)
Colour = tuple[int, int, int]
SKY: tuple[tuple[float, Colour], ...] = (
    (0.0, (28, 48, 92)),
    (0.45, (93, 116, 158)),
    (0.75, (222, 160, 132)),
    (0.93, (255, 206, 150)),
    (1.0, (255, 226, 180)),
)
# From far to near: base height, roughness, colour of the ridge, colour of the foot (the far ones drown in haze).
RANGES: tuple[tuple[int, int, Colour, Colour], ...] = (
    (430, 250, (122, 128, 160), (226, 172, 148)),
    (520, 180, (84, 98, 132), (196, 152, 142)),
    (600, 120, (52, 72, 98), (132, 118, 124)),
    (655, 60, (30, 50, 62), (58, 72, 76)),
)


def draw_scene(seed: int = 7) -> Image.Image:
    """The picture, 1024 x 576, RGB."""
    random = Random(seed)
    scene = _gradient((WIDTH, HEIGHT), SKY, HORIZON)
    _clouds(scene, random)
    _sun(scene)
    for base, rough, ridge, foot in RANGES:
        _mountains(scene, _ridge(base, rough, random), (ridge, foot), random)
    _forest(scene, random)
    _cabin(scene, (520, HORIZON - 6))
    _lake(scene, random)
    _jetty(scene)
    _bank(scene, random)
    for x, foot, height in ((110, 1190, 900), (330, 1180, 560), (1840, 1190, 760), (1990, 1185, 1010)):
        _pine(scene, (x, foot), height, random)
    small = scene.resize(SIZE, Image.Resampling.LANCZOS)
    return ImageEnhance.Color(small).enhance(1.12)


def _noise(size: tuple[int, int], cells: tuple[int, int], octaves: int, random: Random) -> Image.Image:
    """Smooth noise from 0 to 255 as a sum of octaves; `cells` is how many blobs the coarsest has."""
    total = Image.new("L", size, 128)
    for octave in range(octaves):
        grid = (cells[0] << octave, cells[1] << octave)
        layer = Image.frombytes("L", grid, random.randbytes(grid[0] * grid[1]))
        total = Image.blend(total, layer.resize(size, Image.Resampling.BICUBIC), 0.75 if octave == 0 else 0.5**octave)
    return total


def _gradient(size: tuple[int, int], stops: tuple[tuple[float, Colour], ...], length: int) -> Image.Image:
    """Colours from top to bottom: `stops` are parts of `length` pixels; below them the last colour goes on."""
    column = Image.new("RGB", (1, size[1]))
    for y in range(size[1]):
        part = min(1.0, y / length)
        lower = max(index for index, stop in enumerate(stops) if stop[0] <= part)
        upper = min(lower + 1, len(stops) - 1)
        span = stops[upper][0] - stops[lower][0]
        column.putpixel((0, y), _mix(stops[lower][1], stops[upper][1], (part - stops[lower][0]) / span if span else 0))
    return column.resize(size)


def _mix(first: Colour, second: Colour, part: float) -> Colour:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _clouds(scene: Image.Image, random: Random) -> None:
    noise = _noise((WIDTH, 560), (5, 6), 5, random)
    thick = noise.point([min(210, max(0, (value - 128) * 5)) for value in range(256)])
    fade = _gradient((WIDTH, 560), ((0.0, (70, 70, 70)), (0.55, (255, 255, 255)), (1.0, (0, 0, 0))), 560).convert("L")
    lit = _gradient((WIDTH, 560), ((0.0, (120, 122, 152)), (0.6, (240, 172, 150)), (1.0, (255, 214, 170))), 560)
    scene.paste(lit, (0, 0), ImageChops.multiply(thick, fade))


def _sun(scene: Image.Image) -> None:
    for radius, strength, colour in (
        (620, 150, (255, 190, 120)),
        (190, 200, (255, 226, 170)),
        (54, 255, (255, 250, 228)),
    ):
        glow = ImageChops.invert(Image.radial_gradient("L")).resize((radius * 2, radius * 2))
        edge = 2 if radius > 60 else 20
        mask = glow.point([min(255, max(0, value - 75) * edge * strength // 255) for value in range(256)])
        scene.paste(Image.new("RGB", mask.size, colour), (SUN[0] - radius, SUN[1] - radius), mask)


def _ridge(base: int, rough: int, random: Random) -> list[float]:
    """Heights of a skyline, one a pixel, by midpoint displacement."""
    heights = [float(base + random.randint(-rough, rough) // 2) for _ in range(5)]
    spread = rough / 1.4
    while len(heights) < WIDTH:
        between = [(a + b) / 2 + random.uniform(-spread, spread) for a, b in pairwise(heights)]
        heights = [value for pair in zip(heights, between, strict=False) for value in pair] + [heights[-1]]
        spread *= 0.52
    return heights


def _mountains(scene: Image.Image, ridge: list[float], colours: tuple[Colour, Colour], random: Random) -> None:
    step = len(ridge) / WIDTH
    skyline = [(x, ridge[int(x * step)]) for x in range(WIDTH)]
    top = min(y for _, y in skyline)
    mask = Image.new("L", scene.size, 0)
    ImageDraw.Draw(mask).polygon([(0, HORIZON), *skyline, (WIDTH, HORIZON)], fill=255)
    stops = ((0.0, colours[0]), (max(0.02, top / HORIZON), colours[0]), (1.0, colours[1]))
    rock = _gradient(scene.size, stops, HORIZON)
    # Slanted noise reads as gullies and light on the slopes.
    gullies = _noise((WIDTH, HEIGHT), (90, 30), 4, random).transform(
        (WIDTH, HEIGHT), Image.Transform.AFFINE, (0.8, 0.5, 0, -0.35, 0.6, 700), Image.Resampling.BILINEAR
    )
    light = gullies.point([min(255, max(0, 128 + (value - 128) * 2)) for value in range(256)]).convert("RGB")
    scene.paste(Image.blend(rock, ImageChops.overlay(rock, light), 0.42), (0, 0), mask)


def _forest(scene: Image.Image, random: Random) -> None:
    pen = ImageDraw.Draw(scene)
    for _ in range(520):
        x, height = random.randrange(-20, WIDTH + 20), random.randrange(22, 64)
        foot = HORIZON + random.randrange(-8, 2)
        shade = random.randrange(14)
        half = height // 5
        pen.polygon([(x - half, foot), (x, foot - height), (x + half, foot)], fill=(14 + shade, 32 + shade, 38 + shade))


def _cabin(scene: Image.Image, corner: tuple[int, int]) -> None:
    x, y = corner
    pen = ImageDraw.Draw(scene)
    pen.rectangle((x, y - 52, x + 108, y), fill=(66, 44, 36))
    for board in range(y - 50, y, 9):
        pen.line((x, board, x + 108, board), fill=(50, 33, 28), width=2)
    pen.polygon([(x - 14, y - 50), (x + 54, y - 96), (x + 122, y - 50)], fill=(38, 28, 30))
    pen.rectangle((x + 82, y - 102, x + 94, y - 74), fill=(44, 34, 34))
    for window in (x + 16, x + 70):
        pen.rectangle((window, y - 38, window + 22, y - 16), fill=(255, 210, 120), outline=(40, 26, 22), width=3)
        pen.line((window + 11, y - 38, window + 11, y - 16), fill=(40, 26, 22), width=3)


def _lake(scene: Image.Image, random: Random) -> None:
    depth = HEIGHT - HORIZON
    above = scene.crop((0, HORIZON - depth, WIDTH, HORIZON)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    water = ImageEnhance.Brightness(above.filter(ImageFilter.GaussianBlur(2))).enhance(0.8)
    water = Image.blend(water, Image.new("RGB", water.size, (40, 64, 96)), 0.22)
    rippled = water.copy()
    for y in range(depth):
        near = y / depth
        shift = math.sin(y / (4 + 16 * near)) * (2 + 14 * near) + random.uniform(-2, 2) * (1 + 3 * near)
        row = water.crop((0, y, WIDTH, y + 1))
        rippled.paste(ImageChops.offset(row, round(shift), 0), (0, y))
    scene.paste(rippled, (0, HORIZON))
    pen = ImageDraw.Draw(scene, "RGBA")
    for _ in range(1500):
        near = random.random() ** 1.6
        y = HORIZON + 4 + int(near * depth)
        in_sun = random.random() < 0.45
        x = int(random.gauss(SUN[0], 40 + 130 * near)) if in_sun else random.randrange(WIDTH)
        length = int(6 + 70 * near * random.random())
        colour = (
            (255, 224, 170, 150) if in_sun else ((180, 196, 220, 46) if random.random() < 0.5 else (16, 30, 52, 60))
        )
        pen.line((x - length, y, x + length, y), fill=colour, width=1 + int(4 * near))


def _jetty(scene: Image.Image) -> None:
    """Planks that run towards the far shore: straight lines that show a roll at once."""
    pen = ImageDraw.Draw(scene)
    near_left, near_right, far_left, far_right, near_y, far_y = 700, 1190, 960, 1040, HEIGHT + 40, 800
    boards = 30
    edges = []
    for index in range(boards + 1):
        part = 1 - 1 / (1 + index * 0.16)  # equal boards seen in perspective
        part /= 1 - 1 / (1 + boards * 0.16)
        edges.append(
            (
                near_y + (far_y - near_y) * part,
                near_left + (far_left - near_left) * part,
                near_right + (far_right - near_right) * part,
            )
        )
    for index, (low, high) in enumerate(pairwise(edges)):
        tone = 0 if index % 2 else 12
        haze = index / boards
        colour = _mix((112 + tone, 84 + tone, 66 + tone), (150 + tone, 118 + tone, 104 + tone), haze)
        pen.polygon([(low[1], low[0]), (low[2], low[0]), (high[2], high[0]), (high[1], high[0])], fill=colour)
        pen.line((low[1], low[0], low[2], low[0]), fill=(40, 30, 30), width=max(2, int(7 * (1 - haze))))
    for index in (2, 7, 14, 24):
        y, left, right = edges[index]
        tall, wide = 190 * (1 - index / 40) ** 3, 34 * (1 - index / 36) ** 2
        for x in (left, right):
            pen.rectangle((x - wide / 2, y - tall, x + wide / 2, y + tall / 5), fill=(58, 42, 38))
            pen.rectangle((x + wide / 5, y - tall, x + wide / 2, y + tall / 5), fill=(120, 86, 66))


def _bank(scene: Image.Image, random: Random) -> None:
    pen = ImageDraw.Draw(scene)
    left = [(x, 1130 + 0.00035 * x * x - 60 * math.exp(-x / 160)) for x in range(0, 640, 8)]
    pen.polygon([(0, HEIGHT), *left, (640, HEIGHT)], fill=(20, 30, 28))
    right = [
        (x, 1136 + 0.0003 * (WIDTH - x) ** 2 - 50 * math.exp(-(WIDTH - x) / 160)) for x in range(1500, WIDTH + 8, 8)
    ]
    pen.polygon([(1500, HEIGHT), *right, (WIDTH, HEIGHT)], fill=(20, 30, 28))
    for _ in range(1100):
        x = random.choice((random.randrange(0, 560), random.randrange(1570, WIDTH)))
        edge = 1150 if x < 700 else 1156
        y = edge + random.randrange(-50, 60)
        lean, tall = random.randrange(-14, 15), random.randrange(18, 70)
        shade = random.randrange(36)
        pen.line((x, y, x + lean, y - tall), fill=(28 + shade, 44 + shade, 32 + shade // 2), width=3)


def _pine(scene: Image.Image, foot: tuple[int, int], height: int, random: Random) -> None:
    pen = ImageDraw.Draw(scene)
    x, y = foot
    pen.polygon([(x - height // 45, y), (x, y - height), (x + height // 45, y)], fill=(30, 24, 24))
    tiers = height // 12
    for tier in range(tiers):
        part = tier / tiers
        top = y - height + part * height * 0.94
        reach = 6 + height * 0.21 * part**0.85 * random.uniform(0.7, 1.1)
        shade = random.randrange(12)
        colour = (10 + shade, 24 + shade, 26 + shade // 2)
        for side in (-1, 1):
            tip = (x + side * reach * random.uniform(0.75, 1.1), top + height * 0.035 + reach * 0.22)
            pen.polygon(
                [(x, top), tip, (x + side * reach * 0.35, top + height * 0.05), (x, top + height * 0.06)], fill=colour
            )


def main() -> None:
    """Write the picture to the file named on the command line, or beside this script."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("scene.png")
    draw_scene().save(target, optimize=True)


if __name__ == "__main__":
    main()
