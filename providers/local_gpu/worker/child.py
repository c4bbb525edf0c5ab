"""The process with the card: loads the model, then renders what it is told to over the line it was started with.

It ends when its line ends, so that it never outlives the worker; a render that hangs is ended from outside, on Linux by
the system where the worker was killed and can end nothing any more.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from providers.local_gpu.worker.events import StartError, Task
from providers.local_gpu.worker.orders import Order
from providers.local_gpu.worker.pipelines import FAULTS, Renderer
from providers.local_gpu.worker.plan import ModelPlan

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def end_with_worker() -> None:
    """Have the system end this process with its worker: a hang that holds the interpreter sees no line end."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Line:
    """The socket to the worker: messages out, orders in, and which render is called off."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._saying = threading.Lock()
        self.orders: queue.Queue[dict[str, Any]] = queue.Queue()
        self.canceled: set[str] = set()

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a message to the worker."""
        with self._saying:
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def listen(self) -> None:
        """Read until the worker is gone, then end this process, whatever it is doing."""
        with self._connection.makefile("rb") as lines:
            for line in lines:
                message = json.loads(line)
                if "cancel" in message:
                    self.canceled.add(message["cancel"])
                else:
                    self.orders.put(message)
        os._exit(0)


def render(renderer: Renderer, line: Line, message: Mapping[str, Any]) -> None:
    """Render one order and say how it went."""
    order = Order(**message["render"])
    task = Task(order, Path(message["picture"]), Path(message["output"]))
    line.say(
        renderer.render(
            task, say=lambda event: line.say(event.as_json()), canceled=lambda: order.id in line.canceled
        ).as_json()
    )
    line.canceled.discard(order.id)


def main(descriptor: int) -> None:
    """Serve the line with this file descriptor until it ends."""
    end_with_worker()
    line = Line(socket.socket(fileno=descriptor))
    threading.Thread(target=line.listen, daemon=True).start()
    plan = ModelPlan.model_validate(line.orders.get()["plan"])
    try:
        renderer = Renderer(plan)
        line.say({"loaded": True})
        renderer.warm_up()
    except (StartError, *FAULTS) as error:
        line.say({"failed": f"{plan.model} cannot be loaded: {type(error).__name__}: {error}"})
        return
    line.say({"ready": asdict(renderer.facts)})
    while True:
        render(renderer, line, line.orders.get())


if __name__ == "__main__":
    main(int(sys.argv[1]))
