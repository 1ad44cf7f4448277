"""A thread for work beside an engine's steps: it gives way to them."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

NICENESS = 10  # about a tenth of a core that others want, too


def background_thread(name: str) -> ThreadPoolExecutor:
    """An executor with one thread, which computes with one thread of torch at a lower priority.

    Where all cores compute a step, an operator is done when the slowest thread is: work of equal rights on
    one of the cores would double a step. Priorities of single threads exist on Linux alone; elsewhere only
    torch's threads are bounded.
    """
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_give_way)


def _give_way() -> None:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
