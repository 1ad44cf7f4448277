"""What one step of the engine does, step by step and without a thread."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from expunge.errors import DeadlineExceeded, ExpungeError, ModelError, Overloaded
from expunge.inference.block_pool import BLOCK
from expunge.inference.limits import EngineLimits
from expunge.inference.paged_kv import PagedKv
from expunge.inference.request import FinishReason, Priority, ScoreResult, TokenBatch, merge
from expunge.inference.sampler import Sampler
from expunge.inference.step_loop import StepLoop
from expunge.inference.task import Task
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel

from .bench import Bench

LIMITS = EngineLimits(max_rows=3, max_queue=8, idle_prefill_tokens=32, kv_bytes=2**20)


@pytest.fixture
def bench(loaded: LoadedModel, adapters: tuple[Adapter, Adapter]) -> Bench:
    return Bench.of(loaded, adapters, LIMITS)


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
    assert len(long.tokens) > 3 * LIMITS.idle_prefill_tokens
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


def test_scores_pass_requests_that_wait_for_a_row(bench: Bench) -> None:
    for _ in range(5):
        bench.submit("The dog", "one", max_tokens=40)
    bench.loop.step()
    bench.loop.step()  # takes on no prompt, but looks what a step costs without
    scoring = bench.submit_score("a dog", " and", "one")
    bench.loop.step()
    assert isinstance(bench.told[scoring][0], ScoreResult)


def test_questions_about_a_prompt_pass_requests_that_wait_for_a_row(bench: Bench) -> None:
    for _ in range(5):
        bench.submit("The dog", "one", max_tokens=40)
    bench.loop.step()
    bench.loop.step()  # takes on no prompt, but looks what a step costs without
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


def test_a_prompt_told_of_gives_way_in_its_middle_and_goes_on_where_it_was(bench: Bench) -> None:
    fields = {"max_tokens": 2, "logprobs": 1, "prompt_logprobs": True}
    alone = bench.submit("The dog " * 80, "one", **fields)
    bench.run()
    others = [bench.submit(f"She studied {index}", "one", max_tokens=40) for index in range(2)]
    bench.loop.step()
    asked = bench.submit("The dog " * 80, "one", priority=Priority.BATCH, **fields)
    for _ in range(3):
        bench.loop.step()
    bench.submit("His number", "two", max_tokens=40)  # there are three rows
    bench.run()
    assert bench.loop.stats().preemptions
    assert set(others) < set(bench.ended)
    assert_told_alike(bench, asked, alone)


def test_a_text_that_is_scored_gives_way_in_its_middle_and_goes_on_where_it_was(bench: Bench) -> None:
    alone = bench.submit_score("The dog", " and the fox" * 40, "one")
    bench.run()
    scoring = bench.submit_score("The dog", " and the fox" * 40, "one")
    for _ in range(3):
        bench.loop.step()
    (row,) = bench.loop._rows
    assert 0 < row.computed < len(scoring.tokens)
    bench.loop._rows._give_way(row)
    bench.run()
    assert bench.score_of(scoring) == pytest.approx(bench.score_of(alone), abs=1e-4)


def assert_told_alike(bench: Bench, one: Task, other: Task) -> None:
    """Both had the same tokens, of prompt and answer, with the same log-probabilities."""
    told = []
    for task in (one, other):
        batch = merge([item for item in bench.told[task] if isinstance(item, TokenBatch)])
        assert len(batch.prompt_logprobs) == len(task.tokens)
        told.append([*batch.prompt_logprobs[1:], *batch.logprobs])
    assert [entry.token_id for entry in told[0]] == [entry.token_id for entry in told[1]]
    for first, second in zip(*told, strict=True):
        assert first.logprob == pytest.approx(second.logprob, abs=1e-4)


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


def test_a_sampler_that_fails_ends_its_own_row_only(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    good = bench.submit("The dog", "one", max_tokens=6)
    bad = bench.submit("She studied", "two", max_tokens=6)
    monkeypatch.setattr(bad, "sampler", _Failing())
    bench.run()
    assert isinstance(bench.told[bad][-1], ExpungeError)
    assert bench.finish_of(good) is FinishReason.LENGTH
    assert bench.loop.stats().kv_used_bytes == 0


class _Failing(Sampler):
    def __init__(self) -> None:
        pass

    def choose(self, logits: torch.Tensor) -> int:
        raise RuntimeError("no numbers left")


def test_nobody_gives_way_to_a_request_that_waits_for_the_prompt_of_another(bench: Bench) -> None:
    for index in range(2):
        bench.submit(f"The dog {index}", "one", max_tokens=60, priority=Priority.BATCH)
    for _ in range(4):
        bench.loop.step()
    long = "What does Tobin Hale do for a living? " * 12
    first = bench.submit(long, "one", max_tokens=2)
    bench.loop.step()
    bench.submit(long, "one", max_tokens=2)
    while not bench.told[first]:
        bench.loop.step()
        assert bench.loop.stats().preemptions == 0
    bench.run()
    assert bench.loop.stats().preemptions == 1


def test_requests_that_do_not_fit_together_take_turns_and_lose_nothing(
    loaded: LoadedModel, adapters: tuple[Adapter, Adapter]
) -> None:
    roomy = Bench.of(loaded, adapters, LIMITS)
    expected = roomy.submit("The dog", "one", max_tokens=60)
    roomy.run()
    token_bytes = roomy.runner.kv.shape.bytes_per_token
    tight = _again(roomy, replace(LIMITS, kv_bytes=10 * BLOCK * token_bytes))
    tasks = [tight.submit("The dog", "one", max_tokens=60) for _ in range(3)]
    tight.run(1000)
    assert tight.loop.stats().preemptions
    assert [tight.text_of(task) for task in tasks] == 3 * [roomy.text_of(expected)]
    assert tight.loop.stats().kv_used_bytes == 0


def test_batch_requests_give_way_to_interactive_ones_and_lose_nothing(bench: Bench) -> None:
    expected = bench.submit("The dog", "one", max_tokens=30)
    bench.run()
    batch = [
        bench.submit("The dog", "one", max_tokens=30, priority=Priority.BATCH) for _ in range(LIMITS.max_rows)
    ]
    for _ in range(3):
        bench.loop.step()
    interactive = bench.submit("She studied", "two", max_tokens=2)
    bench.loop.step()
    assert bench.told[interactive]
    bench.run()
    assert bench.ended[1] is interactive
    assert {bench.text_of(task) for task in batch} == {bench.text_of(expected)}


def test_a_client_that_took_every_row_gives_some_to_another(bench: Bench) -> None:
    flood = [bench.submit("The dog", "one", max_tokens=40, client="a") for _ in range(LIMITS.max_rows + 4)]
    for _ in range(3):
        bench.loop.step()
    other = bench.submit("She studied", "one", max_tokens=3, client="b")
    bench.loop.step()
    assert bench.told[other]
    bench.run()
    assert bench.ended[0] is other
    assert len({bench.text_of(task) for task in flood}) == 1


def test_a_large_request_is_not_overtaken_for_ever(
    bench: Bench,
) -> None:
    bench = _again(bench, replace(LIMITS, kv_bytes=8 * BLOCK * bench.runner.kv.shape.bytes_per_token))
    running = [bench.submit("The dog", "one", max_tokens=20) for _ in range(2)]
    bench.loop.step()
    large = bench.submit("What does Tobin Hale do for a living? " * 8, "one", max_tokens=2)
    later = bench.submit("The dog", "two", max_tokens=2)
    for _ in range(10):
        bench.loop.step()
    assert not bench.told[later]  # there would be room for it
    assert not bench.ended
    bench.run()
    assert set(bench.ended) == {*running, large, later}


def _again(bench: Bench, limits: EngineLimits) -> Bench:
    """A loop with other limits over the same model."""
    kv = bench.runner.kv
    bench.runner.kv = PagedKv(kv.shape, kv.shape.blocks_in(limits.kv_bytes), bench.runner.device, None)
    ended: list[Task] = []
    loop = StepLoop(bench.runner, limits, ended.append, lambda: bench.now)
    return Bench(loop, bench.runner, bench.codec, bench.adapters, ended)
