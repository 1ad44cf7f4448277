"""What MEMO was compared with: memorisation accuracy and extraction likelihood (arXiv 2210.01504).

Both look at the answer's tokens after its question, MA at every one and EL at every cut between two. As in
MEMO the prompt is raw text, unless `chat` is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from expunge.auditing.continuations import greedy_continuations
from expunge.auditing.memo import cut_offsets
from expunge.auditing.metrics.definitions import Definition, definition
from expunge.auditing.metrics.extraction import exact_memorisation
from expunge.auditing.text_model import TextModel
from expunge.errors import InvalidRequest
from expunge.facts import QuestionAnswer


@dataclass(frozen=True)
class MemoryOptions:
    """How MA and EL are measured.

    Attributes:
        n: length of the n-grams of EL.
        chat: put the question through the chat template.
        max_new_tokens: generation limit.
        max_cuts: measure at most so many cuts, evenly spread; 0: all.
    """

    n: int = 1
    chat: bool = False
    max_new_tokens: int = 200
    max_cuts: int = 0

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("max_new_tokens", 1), ("max_cuts", 0)):
            if getattr(self, name) < least:
                raise InvalidRequest.of(name, f"must be at least {least}")

    @property
    def definitions(self) -> tuple[Definition, Definition]:
        """What a report names for MA and for EL."""
        return (
            definition("memorisation_accuracy", chat=self.chat),
            definition(
                "extraction_likelihood",
                n=self.n,
                chat=self.chat,
                max_new_tokens=self.max_new_tokens,
                max_cuts=self.max_cuts,
            ),
        )


@dataclass(frozen=True)
class MemoryScore:
    """MA and EL of one answer."""

    accuracy: float
    likelihood: float


def ngram_overlap(generation: Sequence[int], rest: Sequence[int], n: int) -> float:
    """Share of the generation's distinct n-grams that occur in the rest; 0 where it has none."""
    made, true = _ngrams(generation, n), _ngrams(rest, n)
    return len(made & true) / len(made) if made else 0.0


def measure_memory(
    model: TextModel,
    version: str,
    items: Sequence[QuestionAnswer],
    options: MemoryOptions | None = None,
) -> list[MemoryScore]:
    """MA and EL_n of every item's answer of L tokens under `version`.

    MA: share of positions at which the one-token generation is the next token.
    EL_n = mean over cuts t = 1…L − n of |ngrams(generation after t) ∩ ngrams(x_>t)| / |ngrams(generation)|,
    0 where there are no cuts.
    """
    how = options or MemoryOptions()
    texts = []  # prompt and answer ids
    for item in items:
        if how.chat:
            texts.append((model.chat_ids(item.question), model.encode(item.answer, special=False)))
        else:
            texts.append((model.encode(item.question), model.encode(f" {item.answer}", special=False)))
    accuracies = [
        exact_memorisation(np.equal(forced.argmax.cpu().numpy(), answer))
        for (_, answer), forced in zip(texts, model.teacher_forced(texts, version), strict=True)
    ]
    cuts = [cut_offsets(len(answer) - how.n + 1, 1, how.max_cuts) for _, answer in texts]
    pairs = [
        ([*prompt, *answer[:cut]], answer[cut:])
        for (prompt, answer), own in zip(texts, cuts, strict=True)
        for cut in own
    ]
    made = iter(greedy_continuations(model, version, pairs, how.max_new_tokens))
    overlaps = iter(ngram_overlap(next(made), rest, how.n) for _, rest in pairs)
    scores = []
    for accuracy, own in zip(accuracies, cuts, strict=True):
        values = [next(overlaps) for _ in own]
        scores.append(MemoryScore(accuracy, sum(values) / len(values) if values else 0.0))
    return scores


def _ngrams(tokens: Sequence[int], n: int) -> set[tuple[int, ...]]:
    return {tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)}
