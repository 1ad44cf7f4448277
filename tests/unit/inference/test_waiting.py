"""Who comes next, and who is refused."""

from __future__ import annotations

import pytest
from torch import Tensor

from expunge.errors import Overloaded
from expunge.inference.request import Priority
from expunge.inference.task import Task
from expunge.inference.waiting import WaitingQueue


class Waiting(Task):
    """A task that only waits."""

    needs_row = True

    def __init__(self, client: str, priority: Priority = Priority.INTERACTIVE) -> None:
        super().__init__("one", 1, [1], None, lambda _: None)
        self.client, self.priority = client, priority

    @property
    def wanted(self) -> range:
        return range(1)

    def take_prompt(self, logits: Tensor) -> None:
        raise AssertionError("nothing runs here")

    def expire(self) -> None:
        raise AssertionError("nothing expires here")


def queue(limit: int = 4, free_rows: int = 0) -> WaitingQueue:
    return WaitingQueue(limit, lambda: free_rows)


def put(waiting: WaitingQueue, *tasks: Task) -> None:
    for task in tasks:
        waiting.put(task)


def test_requests_of_one_client_keep_their_order() -> None:
    waiting = queue()
    tasks = [Waiting("a") for _ in range(3)]
    put(waiting, *tasks)
    assert waiting.in_order() == tasks


def test_the_client_that_was_served_least_comes_next() -> None:
    waiting = queue()
    flooding, other = [Waiting("a") for _ in range(3)], Waiting("b")
    put(waiting, *flooding)
    waiting.remove(flooding[0])
    waiting.charge("a", 100)
    waiting.put(other)
    waiting.charge("b", 1)
    assert waiting.in_order()[0] is flooding[1]  # "b" starts where "a" stands, and was served since
    waiting.charge("a", 2)
    assert waiting.in_order() == [other, *flooding[1:]]


def test_a_pause_saves_nothing_up() -> None:
    waiting = queue()
    busy, back = Waiting("a"), Waiting("b")
    waiting.charge("a", 1000)
    put(waiting, busy, back)
    waiting.charge("b", 1)
    assert waiting.in_order() == [busy, back]


def test_who_comes_while_nobody_waits_is_not_behind_those_who_run() -> None:
    waiting = queue()
    running = Waiting("a")
    waiting.put(running)
    waiting.remove(running)
    waiting.charge("a", 1000)
    flood, next_one = [Waiting("b") for _ in range(2)], Waiting("a")
    put(waiting, *flood, next_one)
    waiting.charge("b", 1)
    assert waiting.in_order()[0] is next_one


def test_interactive_requests_come_before_batch() -> None:
    waiting = queue()
    batch, interactive = Waiting("a", Priority.BATCH), Waiting("b")
    waiting.charge("b", 1000)
    put(waiting, batch, interactive)
    assert waiting.in_order() == [interactive, batch]


def test_a_request_that_gave_way_keeps_its_place() -> None:
    waiting = queue()
    first, second = Waiting("a"), Waiting("a")
    put(waiting, first, second)
    waiting.remove(first)
    waiting.put_back(first)
    assert waiting.in_order() == [first, second]


def test_a_full_queue_refuses_with_its_size() -> None:
    waiting = queue(limit=2)
    put(waiting, Waiting("a"), Waiting("a"))
    with pytest.raises(Overloaded, match="2 requests are waiting") as refused:
        waiting.put(Waiting("a"))
    assert refused.value.retry_after_s


def test_free_rows_count_as_room() -> None:
    waiting = queue(limit=1, free_rows=2)
    put(waiting, *(Waiting("a") for _ in range(3)))
    with pytest.raises(Overloaded):
        waiting.put(Waiting("a"))


def test_in_a_full_queue_the_youngest_of_a_flood_gives_way_to_others() -> None:
    waiting = queue(limit=3)
    flood = [Waiting("a") for _ in range(3)]
    put(waiting, *flood)
    other = Waiting("b")
    waiting.put(other)
    refused = waiting.drop(lambda task: task.refusal is not None)
    assert refused == [flood[-1]]
    assert isinstance(refused[0].refusal, Overloaded)
    assert other in waiting.in_order()
    with pytest.raises(Overloaded):
        waiting.put(Waiting("b"))  # two of "b" beside two of "a" would be no fairer


def test_a_text_that_has_begun_gives_way_to_nobody() -> None:
    waiting = queue(limit=3)
    flood = [Waiting("a") for _ in range(3)]
    put(waiting, *flood)
    flood[2].written = [1]
    waiting.put(Waiting("b"))
    assert [task.refusal is not None for task in flood] == [False, True, False]
    begun = queue(limit=3)
    rows = [Waiting("a") for _ in range(3)]
    put(begun, *rows)
    for row in rows:
        row.written = [1]
    with pytest.raises(Overloaded):
        begun.put(Waiting("b"))
    assert not any(row.refusal for row in rows)
