"""Prompts run in one pass, without the tokens whose keys and values the prefix cache holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from expunge.inference.kv import KvScratch
from expunge.inference.prefix_cache import PrefixCache
from expunge.inference.prefix_tree import PrefixTree, pack
from expunge.inference.runner import ModelRunner
from expunge.inference.task import Task


@dataclass(frozen=True)
class Prefilled:
    """What came out for one task.

    Attributes:
        logits: after the positions it wanted, [wanted, vocabulary].
        scratch: keys and values.
        path: the nodes of `scratch` that hold the task's tokens, [tokens].
    """

    logits: Tensor
    scratch: KvScratch
    path: Tensor

    @classmethod
    def whole(cls, logits: Tensor, scratch: KvScratch) -> Prefilled:
        """Of a task that has the scratch to itself."""
        return cls(logits, scratch, torch.arange(scratch.length))


class Prefill:
    """Runs prompts through `runner`; reads and feeds `cache`. Belongs to one thread.

    Attributes:
        computed_tokens: prompt tokens that went through the model.
        cached_tokens: prompt tokens that did not need to.
    """

    def __init__(self, runner: ModelRunner, cache: PrefixCache) -> None:
        self._runner = runner
        self._cache = cache
        self.computed_tokens = 0
        self.cached_tokens = 0

    def cost(self, task: Task) -> int:
        """How many of the task's tokens have to be computed."""
        return len(task.tokens) - self._held(task)

    def run(self, tasks: Sequence[Task]) -> list[Prefilled]:
        """Run the prompts of `tasks`, all of one version, in one pass."""
        if len(tasks) == 1:
            scratch = self.begin(tasks[0])
            return [Prefilled.whole(self.extend(tasks[0], scratch, len(tasks[0].tokens)), scratch)]
        (tree,) = pack([task.tokens for task in tasks], sum(len(task.tokens) for task in tasks))
        paths = dict(zip(tree.members, tree.paths, strict=True))
        wanted = {paths[index][at] for index, task in enumerate(tasks) for at in task.wanted}
        scratch = KvScratch(len(tree))
        held = self._load(tree, tasks, wanted, scratch)
        computed = [node for node in range(len(tree)) if node not in held]
        order = np.array([*held, *computed])  # how the nodes lie in the scratch
        place = np.empty(len(tree), dtype=np.int64)
        place[order] = np.arange(len(tree))
        asked = sorted(wanted)
        logits = self._runner.run_row(
            scratch,
            [tree.tokens[node] for node in computed],
            [tree.positions[node] for node in computed],
            torch.from_numpy(tree.visibility()[np.ix_(order[len(held) :], order)]),
            tasks[0].slot,
            [int(place[node]) - len(held) for node in asked],
        )
        self.computed_tokens += len(computed)
        self.cached_tokens += sum(len(task.tokens) for task in tasks) - len(computed)
        row = {node: index for index, node in enumerate(asked)}
        results = []
        for index, task in enumerate(tasks):
            path = torch.from_numpy(place[paths[index]])
            prefilled = Prefilled(logits[[row[paths[index][at]] for at in task.wanted]], scratch, path)
            self._keep(task, prefilled)
            results.append(prefilled)
        return results

    def begin(self, task: Task) -> KvScratch:
        """A scratch for the prompt of one task, with what is known of it; go on with `extend`."""
        scratch = KvScratch(len(task.tokens))
        held = self._held(task)
        for piece in self._cache.read(task.version, task.tokens, 0, held):
            scratch.append(piece)
        self.cached_tokens += held
        return scratch

    def extend(self, task: Task, scratch: KvScratch, tokens: int) -> Tensor:
        """Run the next `tokens` of the task's prompt.

        Returns:
            logits after the positions among them that the task wants, [wanted, vocabulary].
        """
        start = scratch.length
        piece = task.tokens[start : start + tokens]
        wanted = [at - start for at in task.wanted if start <= at < start + len(piece)]
        logits = self._runner.extend(scratch, piece, task.slot, wanted)
        self.computed_tokens += len(piece)
        if scratch.length == len(task.tokens):
            self._keep(task, Prefilled.whole(logits, scratch))
        return logits

    def _keep(self, task: Task, prefilled: Prefilled) -> None:
        """Give the prompt to the cache, unless it went wrong: the last logits depend on every token."""
        if bool(prefilled.logits[-1].amax().isfinite()):
            self._cache.insert(task.version, task.tokens, prefilled.path, prefilled.scratch)

    def _held(self, task: Task) -> int:
        """Leading tokens that need no computing; where logits are wanted, the model has to run."""
        return self._cache.length(task.version, task.tokens[: task.wanted.start])

    def _load(
        self, tree: PrefixTree, tasks: Sequence[Task], wanted: set[int], scratch: KvScratch
    ) -> dict[int, None]:
        """Copy what is known of `tree` into `scratch`; returns the nodes, in the order of the copies."""
        held: dict[int, None] = {}
        for member, path in zip(tree.members, tree.paths, strict=True):
            task = tasks[member]
            missing = [
                at for at in range(self._held(task)) if path[at] not in held and path[at] not in wanted
            ]
            for start, end in _runs(missing):
                for piece in self._cache.read(task.version, task.tokens, start, end):
                    scratch.append(piece)
                held.update(dict.fromkeys(path[start:end]))
        return held


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """[start, end) of each stretch of consecutive `numbers`, which rise."""
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or numbers[index] != numbers[index - 1] + 1:
            yield numbers[start], numbers[index - 1] + 1
            start = index
