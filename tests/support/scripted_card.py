"""A process that speaks a card's line without any model: it steps, hangs, dies or fails as the model's name says."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

FACTS = {"models": ["svd"], "device": "cuda:0", "device_name": "scripted", "replicas": 1, "size_multiple": 64}


def main(descriptor: int) -> None:
    """Serve the line until it ends."""
    line = socket.socket(fileno=descriptor).makefile("rwb", buffering=0)

    def say(**message: Any) -> None:
        line.write(json.dumps(message).encode() + b"\n")

    said = [json.loads(line.readline())]
    model = said[0]["plan"]["model"]
    if model == "broken":
        say(failed="broken cannot be loaded: it is broken")
        return
    if model == "dies-at-once":
        os.kill(os.getpid(), signal.SIGKILL)
    if model == "warms-up":
        say(loaded=True)
        time.sleep(0.3)
    say(ready=FACTS)
    for text in line:
        message = json.loads(text)
        if "render" not in message:
            continue
        order = message["render"]
        say(kind="started", steps=2)
        say(kind="step", step=1)
        act(order["parameters"]["seed"], message, say)


def act(seed: int, message: dict[str, Any], say: Any) -> None:
    """What becomes of a render is in its seed."""
    if seed == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    elif seed == 2:
        time.sleep(60)
    elif seed in {4, 5}:
        say(kind="compiling")
        time.sleep(1.0 if seed == 4 else 60)
        say(kind="compiled")
        say(kind="failed", code="invalid", message="it was compiled")
    elif seed == 3:
        say(kind="failed", code="fault", message="the card is confused")
    else:
        Path(message["output"]).write_bytes(str(os.getpid()).encode())
        output = {"media_type": "video/mp4", "size_bytes": 1, "sha256": "", "frames": 4, "fps": 7, "width": 64}
        say(kind="finished", output={**output, "height": 64})


if __name__ == "__main__":
    main(int(sys.argv[1]))
