"""A step loop on the tiny model, driven step by step and without a thread."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from expunge.inference.batch_runner import BatchRunner
from expunge.inference.codec import TextCodec
from expunge.inference.limits import EngineLimits
from expunge.inference.request import FinishReason, GenerationRequest, ScoreRequest, ScoreResult, TokenBatch
from expunge.inference.step_loop import StepLoop
from expunge.inference.task import Generation, Item, Scoring, Task
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel

AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass
class Bench:
    """A step loop with a clock of its own, versions "one" and "two", and what its tasks were told."""

    loop: StepLoop
    runner: BatchRunner
    codec: TextCodec
    adapters: dict[str, Adapter]
    ended: list[Task]
    told: dict[Task, list[Item]] = field(default_factory=dict)
    now: float = 0.0

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        adapters: tuple[Adapter, Adapter],
        limits: EngineLimits,
        kernels_folder: Path | None = None,
    ) -> Bench:
        runner = BatchRunner(loaded, 4, 8, limits.kv_bytes, kernels_folder=kernels_folder)
        runner.table.load_base(loaded.version)
        named = dict(zip(("one", "two"), adapters, strict=True))
        for name, adapter in named.items():
            runner.table.load(name, adapter)
        ended: list[Task] = []
        loop = StepLoop(runner, limits, ended.append, lambda: bench.now)
        bench = cls(loop, runner, TextCodec(loaded.model, loaded.tokenizer), named, ended)
        return bench

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

    def text_of(self, task: Task) -> str:
        return "".join(item.text for item in self.told[task] if isinstance(item, TokenBatch))

    def score_of(self, task: Task) -> list[float]:
        (result,) = self.told[task]
        assert isinstance(result, ScoreResult)
        return [token.logprob for token in result.tokens]
