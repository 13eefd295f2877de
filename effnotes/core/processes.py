"""What processes that are started side by side need: their share of the cores, and an end when their parent ends."""

import multiprocessing
import os
import threading
from multiprocessing import connection


def available_cores() -> int:
    """Return the number of cores that this process may use: `OMP_NUM_THREADS` where it is set, else what the system grants."""
    configured = os.environ.get("OMP_NUM_THREADS", "")
    if configured.isdigit() and int(configured) > 0:
        return int(configured)
    return granted_cores()


def granted_cores() -> int:
    """Return the number of cores that the system grants this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def exit_with_parent() -> None:
    """Make this child process exit as soon as its parent does, however the parent ends; without effect in no child."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    # A worker that waits on a queue holds the queue's other end open itself, so it would never see the queue close.
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
