"""Which process trains a run, so that two never train the same one, and a dead one's run can be gone on with."""

from __future__ import annotations

import os
import socket

import psutil

TAG = "driver"


def this_process() -> str:
    """What the tag says of this process: host, process id and when it was started."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.2f}"


def is_alive(owner: str | None) -> bool | None:
    """Whether the process that a tag names still runs; None where it is on another machine, or nobody knows."""
    host, _, process = (owner or "").partition(" ")
    if host != socket.gethostname():
        return None
    number, _, started = process.partition(" ")
    try:
        process = psutil.Process(int(number))
        return f"{process.create_time():.2f}" == started and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.NoSuchProcess, ValueError):
        return False
