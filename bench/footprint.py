"""What the smallest installation is: its packages, its size, whether it works alone, and its bill of materials.

    python bench/footprint.py [--sbom dist/vidgate.cdx.json] [--json]

A fresh virtual environment gets the core's lock file by hash (requirements.core.lock, no extra) and the wheel that is
built here, without resolving anything. Then `vidgate demo` runs in it, from one picture to one billed video, and
cyclonedx-py lists what is there (CycloneDX 1.6, validated). The status is 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from examples.scene import draw_scene

ROOT = Path(__file__).parents[1]
STEP_S_MAX = 600
MEGABYTE = 1_000_000
# Above what is there today, so that one more package is taken in knowingly.
DISTRIBUTIONS_MAX = 50
SIZE_MB_MAX = 300
# What makes an environment, and is in none of the counts.
TOOLS = {"pip", "setuptools", "wheel"}
LISTING = """
import importlib.metadata, json
print(json.dumps({d.metadata["Name"].lower(): sorted(str(d.locate_file(f)) for f in d.files or ())
                  for d in importlib.metadata.distributions()}))
"""


@dataclass(frozen=True, slots=True)
class Footprint:
    """An installation: size in bytes by distribution, and how many components its bill of materials has."""

    size_bytes: dict[str, int]
    components: int

    @property
    def size_mb(self) -> float:
        """The whole size in megabytes of 1,000,000 bytes."""
        return sum(self.size_bytes.values()) / MEGABYTE

    def misses(self) -> Iterator[str]:
        """Each target that is missed, in words."""
        if len(self.size_bytes) > DISTRIBUTIONS_MAX:
            yield f"{len(self.size_bytes)} distributions, target {DISTRIBUTIONS_MAX}"
        if self.size_mb > SIZE_MB_MAX:
            yield f"{self.size_mb:.0f} MB, target {SIZE_MB_MAX}"
        if self.components != len(self.size_bytes):
            yield f"the bill of materials has {self.components} components for {len(self.size_bytes)} distributions"


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a step and answer with what it printed. Raises SystemExit with its last words when it fails."""
    quiet = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    line = [str(part) for part in command]
    done = subprocess.run(line, check=False, cwd=cwd, env=quiet, capture_output=True, text=True, timeout=STEP_S_MAX)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(line)} ended with {done.returncode}:\n{done.stderr[-2_000:]}")
    return done.stdout


def install(folder: Path) -> Path:
    """Put the core's packages and the project into an environment of their own; answers with its interpreter."""
    python = folder / "core/bin/python"
    run(sys.executable, "-m", "venv", folder / "core")
    run(python, "-m", "pip", "install", "-qq", "--require-hashes", "-r", ROOT / "requirements.core.lock")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    wheel = next(folder.glob("*.whl"))
    run(python, "-m", "pip", "install", "-qq", "--no-deps", "--no-index", wheel)
    return python


def measure(python: Path) -> dict[str, int]:
    """The bytes of every distribution in an environment, compiled files among them."""
    listed: dict[str, list[str]] = json.loads(run(python, "-c", LISTING))
    return {
        name: sum(Path(file).stat().st_size for file in files if Path(file).is_file())
        for name, files in listed.items()
        if name not in TOOLS
    }


def bill_of_materials(python: Path, target: Path) -> int:
    """Write the CycloneDX list of an environment; answers with how many components it has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    tool = Path(sysconfig.get_path("scripts")) / "cyclonedx-py"
    options = ["--pyproject", ROOT / "pyproject.toml", "--output-reproducible", "--validate", "-o", target]
    run(tool, "environment", python, *options)
    document = json.loads(target.read_text(encoding="utf-8"))
    # The project itself is what the document is about, and no component of it.
    return 1 + sum(one["name"].lower() not in TOOLS for one in document["components"])


def shown(footprint: Footprint) -> Table:
    """The heaviest distributions and the whole, as a table."""
    table = Table(title="The smallest installation")
    table.add_column("distribution")
    table.add_column("MB", justify="right")
    heaviest = sorted(footprint.size_bytes.items(), key=lambda item: -item[1])
    for name, size in heaviest[:8]:
        table.add_row(name, f"{size / MEGABYTE:.1f}")
    rest = heaviest[8:]
    table.add_row(f"{len(rest)} more", f"{sum(size for _, size in rest) / MEGABYTE:.1f}", end_section=True)
    table.add_row(f"{len(heaviest)} in all", f"{footprint.size_mb:.1f}")
    return table


def main() -> int:
    """Install, run, list, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sbom", type=Path, default=ROOT / "dist/vidgate.cdx.json", help="where the list is written")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="vidgate-footprint-") as name,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        folder, step = Path(name), progress.add_task("installing by hash")
        python = install(folder)
        sizes = measure(python)
        progress.update(step, description="vidgate demo on it")
        draw_scene().save(folder / "photo.jpg")
        run(python.with_name("vidgate"), "demo", folder / "photo.jpg", cwd=folder)
        progress.update(step, description="listing it")
        footprint = Footprint(sizes, bill_of_materials(python, arguments.sbom))
    if arguments.json:
        print(json.dumps(asdict(footprint) | {"size_mb": round(footprint.size_mb, 1), "sbom": str(arguments.sbom)}))
    else:
        Console().print(shown(footprint))
        print(f"`vidgate demo` ran on it. Bill of materials: {os.path.relpath(arguments.sbom)}")
    missed = list(footprint.misses())
    print(*(f"missed: {one}" for one in missed), sep="\n", end="" if not missed else "\n", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
