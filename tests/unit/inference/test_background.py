"""Work beside an engine's steps gives way to them."""

from __future__ import annotations

import os
import sys
import threading

import pytest
import torch

from expunge.inference.background import NICENESS, background_thread


def _priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads a priority of their own")
def test_it_has_a_lower_priority_and_leaves_that_of_others_alone() -> None:
    before = _priority()
    with background_thread("test") as executor:
        assert executor.submit(_priority).result() == min(19, before + NICENESS)
    assert _priority() == before


def test_it_computes_with_one_thread_and_leaves_those_of_others_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with background_thread("test") as executor:
            assert executor.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
