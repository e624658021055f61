"""Processes that work for this one."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def process_pool(workers: int, **options: Any) -> ProcessPoolExecutor:
    """A pool of new processes that end with this one, however it ends; ``options`` are the executor's.

    Workers whose parent was killed would otherwise wait for work without end.
    """
    # Forking a process in which JAX runs threads may hang it.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent, **options)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a pool's process"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
