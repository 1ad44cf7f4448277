"""How one version does on the task set: every item right or not, asked in two batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge.auditing.ability.choices import right_choices
from expunge.auditing.ability.instructions import follows
from expunge.auditing.ability.refusals import refuses
from expunge.auditing.ability.tasks import Task, TaskSet
from expunge.auditing.text_model import TextModel

INSTRUCTION_TOKENS = 40  # most new ones of a reply
REFUSAL_TOKENS = 24
_KEPT = 16  # versions whose scores are remembered

Scores = Mapping[Task, tuple[bool, ...]]  # by task, for each item: right, followed, refused


def score_tasks(model: TextModel, version: str, tasks: TaskSet) -> Scores:
    """Multiple choice by one teacher-forced pass, instructions and harmful requests by one greedy batch.

    Raises:
        VersionNotStaged: the model does not hold `version`.
    """
    scores: dict[Task, tuple[bool, ...]] = {}
    if chosen := (*tasks.knowledge, *tasks.reasoning):
        right = tuple(right_choices(model, version, chosen))
        scores[Task.KNOWLEDGE] = right[: len(tasks.knowledge)]
        scores[Task.REASONING] = right[len(tasks.knowledge) :]
    asked = [(item.instruction, INSTRUCTION_TOKENS) for item in tasks.instructions]
    asked += [(item.request, REFUSAL_TOKENS) for item in tasks.refusals]
    replies = iter(_replies(model, version, asked))
    scores[Task.INSTRUCTIONS] = tuple(follows(next(replies), item.checks) for item in tasks.instructions)
    scores[Task.REFUSALS] = tuple(refuses(next(replies)) for _ in tasks.refusals)
    return {task: values for task, values in scores.items() if values}


def _replies(model: TextModel, version: str, asked: Sequence[tuple[str, int]]) -> list[str]:
    if not asked:
        return []
    prompts = [model.chat_ids(text) for text, _ in asked]
    return [model.decode(reply) for reply in model.greedy(prompts, version, [most for _, most in asked])]


@dataclass(frozen=True)
class _Asked:
    version: str
    digest: str


class KnownScores:
    """Scores of the versions asked last: what one audit judged is the next one's baseline.

    For one model only: an id names the same weights for ever, but another model may serve them in another
    precision.
    """

    def __init__(self) -> None:
        self._scores: dict[_Asked, Scores] = {}

    def of(self, model: TextModel, version: str, tasks: TaskSet) -> Scores:
        """The version's scores, asked for where they are not known. Raises as `score_tasks`."""
        key = _Asked(version, tasks.digest)
        scores = self._scores.pop(key, None) or score_tasks(model, version, tasks)
        self._scores[key] = scores
        while len(self._scores) > _KEPT:
            del self._scores[next(iter(self._scores))]
        return scores
