"""What one step of the engine does, step by step and without a thread."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest
import torch

from expunge.errors import DeadlineExceeded, ExpungeError, ModelError, Overloaded
from expunge.inference.codec import TextCodec
from expunge.inference.limits import EngineLimits
from expunge.inference.prefill import Prefill, Prefilled
from expunge.inference.request import FinishReason, GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.inference.runner import ModelRunner
from expunge.inference.sampler import Sampler
from expunge.inference.step_loop import StepLoop
from expunge.inference.task import Generation, Item, Scoring, Task
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel

AnyTask = TypeVar("AnyTask", bound=Task)
LIMITS = EngineLimits(max_rows=3, max_queue=8, busy_prefill_tokens=16, idle_prefill_tokens=32)


@dataclass
class Bench:
    """A step loop with a clock of its own, and what its tasks were told."""

    loop: StepLoop
    runner: ModelRunner
    codec: TextCodec
    ended: list[Task]
    told: dict[Task, list[Item]] = field(default_factory=dict)
    now: float = 0.0

    def submit(self, prompt: str, version: str, **fields: object) -> Generation:
        request = replace(GenerationRequest("r", version, prompt=prompt, max_tokens=50), **fields)
        items: list[Item] = []
        slot = self.runner.table.slot_of(version)
        task = Generation(request, slot, self.codec.encode(prompt), 2048, self.codec, items.append)
        return self._put(task, items)

    def submit_score(
        self, context: str, continuation: str, version: str, deadline: float | None = None
    ) -> Scoring:
        items: list[Item] = []
        request = ScoreRequest("s", version, context, continuation, deadline)
        ids = self.codec.encode(context), self.codec.encode(continuation)
        task = Scoring(request, self.runner.table.slot_of(version), *ids, self.codec, items.append)
        return self._put(task, items)

    def _put(self, task: AnyTask, items: list[Item]) -> AnyTask:
        self.told[task] = items
        self.loop.waiting.put(task)
        return task

    def run(self, limit: int = 400) -> None:
        for _ in range(limit):
            if not self.loop.has_work:
                return
            self.loop.step()
        raise AssertionError("the loop does not come to an end")

    def finish_of(self, task: Task) -> FinishReason | None:
        last = self.told[task][-1]
        assert isinstance(last, TokenBatch)
        return last.finish


@pytest.fixture
def bench(loaded: LoadedModel, adapters: tuple[Adapter, Adapter]) -> Bench:
    runner = ModelRunner(loaded, 4, 8)
    runner.table.load_base(loaded.version)
    runner.table.load("one", adapters[0])
    runner.table.load("two", adapters[1])
    ended: list[Task] = []
    loop = StepLoop(runner, LIMITS, ended.append, lambda: bench.now)
    bench = Bench(loop, runner, TextCodec(loaded.model, loaded.tokenizer), ended)
    return bench


def test_a_cancelled_request_leaves_at_the_next_step(bench: Bench) -> None:
    first, second = bench.submit("The dog", "one"), bench.submit("She studied", "two")
    for _ in range(3):
        bench.loop.step()
    first.is_cancelled = True
    told = len(bench.told[first])
    bench.loop.step()
    assert bench.ended == [first]
    assert len(bench.told[first]) == told
    assert bench.loop.stats().running == 1
    bench.run()
    assert bench.ended == [first, second]


def test_a_cancelled_request_does_not_wait_in_the_queue(bench: Bench) -> None:
    waiting = [bench.submit("The dog", "one") for _ in range(5)]
    bench.loop.step()
    waiting[-1].is_cancelled = True
    bench.loop.step()
    assert waiting[-1] in bench.ended
    assert bench.told[waiting[-1]] == []


def test_a_deadline_ends_a_running_and_a_waiting_request(bench: Bench) -> None:
    running = bench.submit("The dog", "one", deadline=5.0)
    others = [bench.submit("The dog", "one") for _ in range(2)]
    bench.loop.step()
    waiting = bench.submit("She studied", "one", deadline=5.0)
    scoring = bench.submit_score("a dog", " and", "one", deadline=-1.0)
    bench.loop.step()
    assert isinstance(bench.told[scoring][-1], DeadlineExceeded)
    bench.now = 6.0
    bench.loop.step()
    assert bench.finish_of(running) is FinishReason.DEADLINE
    assert bench.finish_of(waiting) is FinishReason.DEADLINE
    assert not set(others) & set(bench.ended)


def test_every_task_ends_once(bench: Bench) -> None:
    tasks: list[Task] = [bench.submit(f"The dog {index}", "one", max_tokens=index + 1) for index in range(6)]
    tasks.append(bench.submit_score("a dog", " and more", "two"))
    bench.run()
    assert sorted(map(id, bench.ended)) == sorted(map(id, tasks))
    assert not bench.loop.has_work


def test_a_long_prompt_takes_turns_with_short_ones(bench: Bench) -> None:
    long = bench.submit("What does Tobin Hale do for a living? " * 12, "one", max_tokens=4)
    assert len(long.tokens) > 5 * LIMITS.busy_prefill_tokens
    bench.loop.step()
    short = bench.submit("The dog", "one", max_tokens=2)
    bench.run()
    assert bench.ended.index(short) < bench.ended.index(long)


def test_rows_and_queue_are_bounded(bench: Bench) -> None:
    for _ in range(LIMITS.max_rows + LIMITS.max_queue):
        bench.submit("The dog", "one", max_tokens=3)
    with pytest.raises(Overloaded):
        bench.submit("The dog", "one")
    while bench.loop.has_work:
        bench.loop.step()
        assert bench.loop.stats().running <= LIMITS.max_rows


def test_key_value_space_is_reserved_to_the_end(bench: Bench) -> None:
    limits = replace(LIMITS, kv_tokens=2 * 100)
    bench.loop = StepLoop(bench.runner, limits, bench.ended.append)
    tasks = [bench.submit("The dog", "one", max_tokens=90) for _ in range(3)]
    bench.loop.step()
    assert bench.loop.stats().running == 2
    large = bench.submit(
        "The dog", "one", max_tokens=1500
    )  # more than all there is: runs alone, after the others
    bench.run(3000)
    assert bench.ended[-1] is large
    assert set(bench.ended) == {*tasks, large}


def test_scores_pass_requests_that_wait_for_a_row(bench: Bench) -> None:
    for _ in range(5):
        bench.submit("The dog", "one", max_tokens=40)
    bench.loop.step()
    scoring = bench.submit_score("a dog", " and", "one")
    bench.loop.step()
    assert isinstance(bench.told[scoring][0], ScoreResult)


def test_questions_about_a_prompt_pass_requests_that_wait_for_a_row(bench: Bench) -> None:
    for _ in range(5):
        bench.submit("The dog", "one", max_tokens=40)
    bench.loop.step()
    asked = bench.submit("a dog and", "one", max_tokens=0, logprobs=0, prompt_logprobs=True)
    bench.loop.step()
    (told,) = bench.told[asked]
    assert isinstance(told, TokenBatch)
    assert [entry.token_id for entry in told.prompt_logprobs] == asked.tokens
    assert (told.text, told.token_ids, told.finish) == ("", (), FinishReason.LENGTH)
    assert bench.ended == [asked]


def test_a_deadline_in_the_middle_of_a_prompt_tells_nothing_of_it(bench: Bench) -> None:
    asked = bench.submit("The dog " * 80, "one", deadline=5.0, logprobs=0, prompt_logprobs=True)
    bench.loop.step()
    bench.now = 6.0
    bench.loop.step()
    assert bench.finish_of(asked) is FinishReason.DEADLINE
    (told,) = bench.told[asked]
    assert isinstance(told, TokenBatch)
    assert told.prompt_logprobs == ()


def test_a_version_that_turns_bad_while_it_runs_harms_no_other_row(
    bench: Bench, adapters: tuple[Adapter, Adapter]
) -> None:
    alone = bench.submit("The dog", "two", max_tokens=12)
    bench.run()
    bad, good = bench.submit("The dog", "one", max_tokens=12), bench.submit("The dog", "two", max_tokens=12)
    for _ in range(3):
        bench.loop.step()
    for factor in bench.runner.table._by_version["one"].pairs[0]:
        factor.fill_(float("nan"))
    bench.run()
    later = [
        bench.submit("The dog", "two", max_tokens=12) for _ in range(3)
    ]  # one gets the row that held NaN
    bench.run()
    assert isinstance(bench.told[bad][-1], ModelError)
    assert all(bench.told[task] == bench.told[alone] for task in (good, *later))


def test_a_step_that_breaks_fails_its_tasks_and_no_others(bench: Bench) -> None:
    good = bench.submit("The dog", "one", max_tokens=6)
    bad = bench.submit("The dog", "two", max_tokens=6)
    bench.runner.table.unload("two")  # its slot is gone, though the task was let in
    bench.run()
    assert bench.finish_of(good) is FinishReason.LENGTH
    error = bench.told[bad][-1]
    assert isinstance(error, ExpungeError)
    assert set(bench.ended) == {good, bad}


def test_a_sampler_that_fails_does_not_stop_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = bench.submit("The dog", "one", max_tokens=6)
    monkeypatch.setattr(bad, "sampler", _Failing())
    bench.run()
    assert isinstance(bench.told[bad][-1], ExpungeError)
    after = bench.submit("The dog", "one", max_tokens=3)
    bench.run()
    assert bench.finish_of(after) is FinishReason.LENGTH


class _Failing(Sampler):
    def __init__(self) -> None:
        pass

    def choose(self, logits: torch.Tensor) -> int:
        raise RuntimeError("no numbers left")


def test_known_beginnings_do_not_make_a_pass_larger(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that need no computing are attended to, and would make a step of many such prompts long."""
    prompt = "What does Tobin Hale do for a living, and where?"
    bench.submit(prompt, "one", max_tokens=1)
    bench.run()
    passes: list[int] = []
    run = Prefill.run

    def counted(prefill: Prefill, tasks: list[Task]) -> list[Prefilled]:
        passes.append(sum(len(task.tokens) for task in tasks))
        return run(prefill, tasks)

    monkeypatch.setattr(Prefill, "run", counted)
    tasks = [bench.submit(prompt, "one", max_tokens=1) for _ in range(3)]
    assert 3 * len(tasks[0].tokens) > LIMITS.idle_prefill_tokens
    bench.run()
    assert len(passes) > 1
    assert max(passes) <= LIMITS.idle_prefill_tokens
