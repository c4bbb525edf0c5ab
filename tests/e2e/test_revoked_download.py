"""A download over a real connection ends with the key that asked for it."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest

from gateway.clock import SystemClock
from gateway.ids import Ids
from gateway.keys import NewKey, create_key, revoke_key
from tests.support.pictures import picture_base64
from tests.support.processes import database, stand

# More than all buffers between the two ends hold, so that the gateway must still be sending.
FILE_BYTES = 64 * 1024 * 1024


def test_a_download_is_cut_off_when_its_key_is_revoked(tmp_path: Path) -> None:
    """The client is left with a part and sees that it is one; the gateway goes on, and calls it no fault of its own."""
    with stand(tmp_path, switches={"speed": 200}, sections={}) as running:
        running.start()
        job = running.client.post("/generate/video", json={"image": picture_base64(), "num_frames": 14}).json()
        (file,) = running.ended(job["id"])["result"]["files"]
        (stored,) = [path for path in (tmp_path / "artifacts").rglob(f"*{file['sha256']}*") if path.is_file()]
        with stored.open("r+b") as grown:
            grown.truncate(FILE_BYTES)
        with database(running.store_url) as transact:
            clock = SystemClock()
            key_id, _, secret = transact(create_key, Ids(clock), NewKey("reel", "leaving", clock.now()))
            said = {"authorization": f"Bearer {secret}"}
            with running.client.stream("GET", f"/jobs/{job['id']}/content", headers=said) as reply:
                assert int(reply.headers["content-length"]) == FILE_BYTES
                pieces = reply.iter_raw()
                got = [len(next(pieces))]
                transact(revoke_key, key_id, clock.now())
                with pytest.raises(httpx.RemoteProtocolError):
                    got.extend(map(slowly, pieces))
        assert sum(got) < FILE_BYTES
        assert running.client.get("/jobs").status_code == 200
        assert "request.fault" not in running.log()


def slowly(piece: bytes) -> int:
    """The size of a piece, after a moment: all of them would take ten seconds and more."""
    time.sleep(0.01)
    return len(piece)
