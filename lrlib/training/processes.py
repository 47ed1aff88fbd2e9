"""Processes of joblib's loky that end with the one that starts them, open no port, and do not run its script."""

import contextlib
import multiprocessing.resource_tracker
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from joblib.externals.loky.backend import resource_tracker
from joblib.externals.loky.process_executor import ProcessPoolExecutor


def start_pool(
    n: int, environment: dict[str, str], initialize: Callable[..., None] | None = None, *arguments: Any
) -> ProcessPoolExecutor:
    """Return a pool of processes, which start at its first task; submit within `block_sigint`.

    Args:
        n: How many.
        environment: Variables that they have besides this process's.
        initialize, arguments: What each calls first.
    """
    starting = (os.getpid(), initialize, *arguments)
    return ProcessPoolExecutor(n, env=environment, initializer=_begin, initargs=starting)


def describe_death(err: Exception) -> str:
    """Return how processes of a pool died, such as "SIGKILL(-9)"; err: loky's BrokenProcessPool."""
    return ", ".join(re.findall(r"[A-Z]+\(-?\d+\)", str(err))) or "for an unknown reason"


@contextlib.contextmanager
def block_sigint() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C, which a terminal sends to all; this one receives it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    for tracker in (multiprocessing.resource_tracker, resource_tracker):
        tracker.ensure_running()  # started later, they would unblock it
    # Other threads, such as tqdm's, do not block it, and Python would then handle it in the main thread.
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    pressed: list[int] = []
    if handler is not None:
        signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        if pressed:
            signal.raise_signal(signal.SIGINT)


def _begin(parent, initialize, *arguments):
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if initialize is not None:
        initialize(*arguments)


def _end_with(parent):
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
