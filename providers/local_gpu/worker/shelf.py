"""Where orders and results lie: a folder, so that a worker that was killed goes on with what it had accepted.

Per render `ID.json` (the order and where it stands), `ID.picture` and `ID.output`. A file is written beside its place
and then moved there, so that what is read is always whole.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from providers.local_gpu.worker.events import StartError
from providers.local_gpu.worker.renders import Render

FILES = (".picture", ".output")
PARTS = (".json", *FILES)
LOCK = "lock"


class Shelf:
    """The folder of one worker."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Nobody else works from the folder while the block runs. Raises StartError where another worker does."""
        with (self._folder / LOCK).open("ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StartError(
                    f"another worker runs from {self._folder}: give this one a folder of its own with --work-dir"
                ) from error
            yield

    def picture(self, render_id: str) -> Path:
        """Where the picture of a render lies."""
        return self._folder / f"{render_id}.picture"

    def output(self, render_id: str) -> Path:
        """Where the finished file of a render lies."""
        return self._folder / f"{render_id}.output"

    def keep_picture(self, render_id: str, data: bytes) -> None:
        """Write the picture of a render that is to be accepted."""
        _replace(self.picture(render_id), data)

    def keep(self, render: Render) -> None:
        """Write down where a render stands."""
        _replace(self._folder / f"{render.id}.json", json.dumps(render.as_json()).encode())

    def forget(self, render_id: str) -> None:
        """Remove everything of a render."""
        for part in PARTS:
            (self._folder / f"{render_id}{part}").unlink(missing_ok=True)

    def forget_picture(self, render_id: str) -> None:
        """Remove the picture of a render that will not be rendered again."""
        self.picture(render_id).unlink(missing_ok=True)

    def renders(self) -> Iterator[Render]:
        """What was kept, in the order of acceptance; what cannot be read, lacks its file or is needed by none goes."""
        found, wanted = [], set()
        for path in self._folder.glob("*.json"):
            try:
                render = Render.from_json(json.loads(path.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError):
                self.forget(path.stem)
                continue
            needed = self.output(render.id) if render.state == "succeeded" else self.picture(render.id)
            if render.state in {"failed", "canceled"}:
                found.append(render)
            elif needed.exists():
                found.append(render)
                wanted.add(needed)
            else:
                self.forget(render.id)
        self._sweep(wanted)
        yield from sorted(found, key=lambda render: render.accepted_at)

    def _sweep(self, wanted: set[Path]) -> None:
        """Remove what a process left that was killed while it wrote or before it tidied up."""
        left = [path for part in PARTS for path in self._folder.glob(f"*{part}.part")]
        left += [path for part in FILES for path in self._folder.glob(f"*{part}") if path not in wanted]
        for path in left:
            path.unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(data)
    os.replace(beside, path)
