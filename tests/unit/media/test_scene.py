"""The demonstration picture."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image, ImageFilter, ImageStat

from gateway.media.intake import read_image
from tests.unit.media.support import saved

SCRIPT = Path(__file__).parents[3] / "examples" / "scene.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("scene", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scene_is_always_the_same_and_is_taken_by_intake(script: ModuleType) -> None:
    """Two runs of the demonstration send the same picture, which is of the model's own size."""
    first, second = saved(script.draw_scene(), "png"), saved(script.draw_scene(), "png")
    assert first == second
    image = read_image(first)
    assert (image.width, image.height, image.media_type) == (1024, 576, "image/png")


def test_there_is_structure_in_every_part_of_the_scene(script: ModuleType) -> None:
    """Motion can be seen wherever one looks: each ninth of the picture has edges."""
    edges: Image.Image = script.draw_scene().convert("L").filter(ImageFilter.FIND_EDGES)
    for row in range(3):
        for column in range(3):
            box = (column * 341, row * 192, (column + 1) * 341, (row + 1) * 192)
            part = edges.crop(tuple(side + trim for side, trim in zip(box, (2, 2, -2, -2), strict=True)))
            assert ImageStat.Stat(part).extrema[0][1] > 20
