"""Prompts that begin like earlier ones: the same answers for less work, and never across versions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from expunge.inference.codec import TextCodec
from expunge.inference.prefill import Prefill
from expunge.inference.prefix_cache import PrefixCache
from expunge.inference.request import GenerationRequest, ScoreRequest
from expunge.inference.runner import ModelRunner
from expunge.inference.task import Generation, Scoring, Task
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel

BEGINNING = "What does Tobin Hale do for a living, and where does she "


class Bench:
    """A model with versions "one" and "two", and prefills through one cache."""

    def __init__(self, loaded: LoadedModel, adapters: tuple[Adapter, Adapter]) -> None:
        self.adapters = dict(zip(("one", "two"), adapters, strict=True))
        self.runner = ModelRunner(loaded, 4, 8)
        self.codec = TextCodec(loaded.model, loaded.tokenizer)
        self.cache = PrefixCache(2**26)
        self.prefill = Prefill(self.runner, self.cache)
        for version in self.adapters:
            self.load(version)

    def load(self, version: str) -> None:
        self.runner.table.load(version, self.adapters[version])

    def generation(self, prompt: str, version: str) -> Task:
        request = GenerationRequest("r", version, prompt=prompt)
        slot = self.runner.table.slot_of(version)
        return Generation(request, slot, self.codec.encode(prompt), 2048, self.codec, lambda _: None)

    def scoring(self, context: str, continuation: str, version: str) -> Task:
        request = ScoreRequest("s", version, context, continuation)
        ids = self.codec.encode(context), self.codec.encode(continuation)
        return Scoring(request, self.runner.table.slot_of(version), *ids, self.codec, lambda _: None)

    def run(self, *tasks: Task) -> list[Tensor]:
        return [prefilled.logits for prefilled in self.prefill.run(tasks)]

    def alone(self, task: Task) -> Tensor:
        """The same without any cache."""
        (prefilled,) = Prefill(self.runner, PrefixCache(0)).run([task])
        return prefilled.logits

    def spoil(self) -> None:
        """Replace everything that is cached by other numbers."""
        for segment in self.cache._recency:
            for layer in segment.kv:
                layer.normal_(generator=torch.Generator().manual_seed(0))


@pytest.fixture
def bench(loaded: LoadedModel, adapters: tuple[Adapter, Adapter]) -> Bench:
    return Bench(loaded, adapters)


def assert_close(got: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_known_beginning_is_not_computed_again(bench: Bench) -> None:
    first = bench.generation(BEGINNING + "live?", "one")
    bench.run(first)
    assert bench.prefill.computed_tokens == len(first.tokens)
    second = bench.generation(BEGINNING + "work today?", "one")
    shared = len(bench.codec.encode(BEGINNING.strip()))
    assert bench.prefill.cost(second) <= len(second.tokens) - shared
    assert_close(bench.run(second), [bench.alone(second)])
    assert bench.prefill.computed_tokens < len(first.tokens) + len(second.tokens) - shared + 1
    assert bench.prefill.cached_tokens >= shared


def test_prompts_in_one_pass_may_know_different_beginnings(bench: Bench) -> None:
    bench.run(bench.generation(BEGINNING, "one"))
    bench.run(bench.generation("She studied", "one"))
    tasks = [
        bench.generation(BEGINNING + "live?", "one"),
        bench.generation(BEGINNING, "one"),  # known to its end; its last token has to run all the same
        bench.generation(BEGINNING + "live?", "one"),
        bench.generation("She studied the sea", "one"),
        bench.generation("The dog", "one"),
        bench.scoring(BEGINNING, "live, of all places", "one"),
        bench.scoring("She", " studied the sea", "one"),  # wants logits within what is known
    ]
    assert_close(bench.run(*tasks), [bench.alone(task) for task in tasks])


def test_a_long_prompt_goes_on_from_what_is_known(bench: Bench) -> None:
    bench.run(bench.generation(BEGINNING * 3, "one"))
    task = bench.generation(BEGINNING * 6, "one")
    scratch = bench.prefill.begin(task)
    assert scratch.length >= len(task.tokens) // 3
    logits = torch.empty(0)
    while scratch.length < len(task.tokens):
        logits = bench.prefill.extend(task, scratch, 16)
    assert_close([logits], [bench.alone(task)])
    assert bench.prefill.cost(bench.generation(BEGINNING * 6 + "?", "one")) <= 3


def test_nothing_computed_under_one_version_is_used_under_another(bench: Bench) -> None:
    first = bench.generation(BEGINNING, "one")
    before = bench.run(first)
    bench.spoil()
    other = bench.generation(BEGINNING, "two")
    assert bench.prefill.cost(other) == len(other.tokens)
    assert_close(bench.run(other), [bench.alone(other)])
    assert not torch.allclose(bench.run(first)[0], before[0])  # what is spoilt would have shown


def test_nothing_survives_a_version_that_leaves_and_returns(bench: Bench) -> None:
    before = bench.run(bench.generation(BEGINNING, "one"))
    bench.spoil()
    bench.cache.drop("one")
    bench.runner.table.unload("one")
    bench.load("one")
    again = bench.generation(BEGINNING, "one")
    assert bench.prefill.cost(again) == len(again.tokens)
    assert_close(bench.run(again), before)


def test_a_prompt_that_went_wrong_is_not_kept(bench: Bench) -> None:
    for pair in bench.runner.table._by_version["one"].pairs or ():
        for factor in pair or ():
            factor.fill_(float("nan"))
    bench.run(bench.generation(BEGINNING, "one"))
    assert bench.cache.bytes == 0
