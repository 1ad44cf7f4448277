"""Torch's threads follow what other processes leave free."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from expunge.inference.background import background_thread
from expunge.inference.elastic_threads import FIRST_S, PERIOD_S, CpuSeconds, ElasticThreads


class Machine:
    """A machine of four cores whose processes use what the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.used = CpuSeconds(0.0, 0.0)
        self.set: list[int] = []

    def threads(self, most: int) -> ElasticThreads:
        return ElasticThreads(
            most,
            cores=4,
            measure=lambda: self.used,
            apply=self.set.append,
            current=lambda: self.set[-1] if self.set else 0,
            clock=lambda: self.now,
        )

    def rest(self, seconds: float, own: float, others: float) -> None:
        """Let time pass in which this process and others keep so many cores busy."""
        self.now += seconds
        self.used = CpuSeconds(self.used.own + own * seconds, self.used.all + (own + others) * seconds)

    def run(self, threads: ElasticThreads, seconds: float, own: float, others: float) -> None:
        """The same, in steps of a tenth of a second."""
        for _ in range(round(seconds / 0.1)):
            self.rest(0.1, own, others)
            threads.adjust()


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_it_begins_with_all_threads(machine: Machine) -> None:
    machine.threads(3).adjust()
    assert machine.set == [3]


@pytest.mark.parametrize(
    ("others", "left"), [(0.0, 4), (0.6, 4), (0.7, 3), (2.2, 2), (3.1, 1), (3.9, 1), (6.0, 1)]
)
def test_each_core_that_others_use_is_left_to_them(machine: Machine, others: float, left: int) -> None:
    threads = machine.threads(4)
    threads.adjust()
    machine.run(threads, 2 * PERIOD_S, own=1.0, others=others)
    assert [4, *machine.set[1:]][-1] == left


def test_threads_come_back_when_the_others_are_done(machine: Machine) -> None:
    threads = machine.threads(4)
    threads.adjust()
    for others in (3.0, 0.0):
        machine.run(threads, 2 * PERIOD_S, own=1.0, others=others)
    assert (machine.set[:2], machine.set[-1]) == ([4, 1], 4)


def test_it_looks_no_more_than_once_in_a_period(machine: Machine) -> None:
    threads = machine.threads(4)
    threads.adjust()
    machine.run(threads, FIRST_S + 0.1, own=1.0, others=0.0)
    machine.run(threads, PERIOD_S - 0.2, own=1.0, others=3.0)
    assert machine.set == [4]


def test_what_others_did_while_it_paused_does_not_count(machine: Machine) -> None:
    threads = machine.threads(4)
    machine.run(threads, 2 * PERIOD_S, own=1.0, others=0.0)
    machine.rest(60.0, own=0.0, others=4.0)
    machine.run(threads, 2 * PERIOD_S, own=1.0, others=0.0)
    assert machine.set == [4]


def test_after_a_pause_it_looks_soon(machine: Machine) -> None:
    threads = machine.threads(4)
    machine.run(threads, 2 * PERIOD_S, own=1.0, others=0.0)
    machine.rest(60.0, own=0.0, others=0.0)
    machine.run(threads, FIRST_S + 0.2, own=1.0, others=3.0)
    assert machine.set == [4, 1]


def test_it_never_takes_more_than_it_may(machine: Machine) -> None:
    threads = machine.threads(2)
    threads.adjust()
    machine.run(threads, 2 * PERIOD_S, own=0.0, others=0.0)
    assert machine.set == [2]


@pytest.fixture
def restored() -> Callable[[], int]:
    before = torch.get_num_threads()
    yield torch.get_num_threads
    torch.set_num_threads(before)


def test_it_sets_the_threads_of_torch(restored: Callable[[], int]) -> None:
    ElasticThreads(1).adjust()
    assert restored() == 1


def test_another_threads_number_does_not_become_its_own(restored: Callable[[], int]) -> None:
    """A thread begins with the number that was set last, wherever: a background thread's one."""
    threads = ElasticThreads(2, measure=lambda: CpuSeconds(0.0, 0.0))
    threads.adjust()
    with background_thread("other") as other:
        other.submit(torch.get_num_threads).result()

    def computes_with() -> int:
        threads.adjust()
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(computes_with).result() == 2


def test_processor_time_grows_with_what_this_process_computes() -> None:
    before = CpuSeconds.now()
    while (now := CpuSeconds.now()).own < before.own + 0.05:
        sum(range(10_000))
    assert now.all > before.all
