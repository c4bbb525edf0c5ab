"""Who acts on this command line, and what is written down of it (gateway/audit.py)."""

from __future__ import annotations

import os
import pwd
import socket

from gateway.audit import Act, Actor


def user() -> str:
    """The user of the machine whose process this is: told by the system, not by the environment."""
    number = os.getuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:
        name = str(number)  # a container's user has no name
    return f"user {name}@{socket.gethostname()}"


def act(name: str, target: str, at: float) -> Act:
    """An act of this command's user."""
    return Act(name, target, Actor(user(), "command"), at)
