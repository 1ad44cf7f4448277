"""One teacher-forced pass over a set of answers, from which every likelihood figure follows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from expunge.auditing.metrics.extraction import exact_memorisation, extraction_strength
from expunge.auditing.text_model import ForcedTokens, TextModel
from expunge.errors import InvalidRequest, Violation
from expunge.facts import Fact, QuestionAnswer

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AnswerSet:
    """A question with its answer, the answer in other words, and wrong answers; both may be missing."""

    question: str
    answer: str
    paraphrase: str = ""
    perturbed: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AnswerScores:
    """What a version makes of one answer of L tokens after its question.

    Attributes:
        text: the answer.
        logprobs: natural-log probability of each token and of the EOS after them, [L + 1].
        hits: whether the arg-max at each of the answer's own positions is its token, [L].
        means, deviations: mean and standard deviation, at each position of `logprobs`, of the log-probability
            under the version's own distribution, [L + 1]; None where they were not asked for.
    """

    text: str
    logprobs: NDArray[np.float64]
    hits: NDArray[np.bool_]
    means: NDArray[np.float64] | None = None
    deviations: NDArray[np.float64] | None = None

    @property
    def tokens(self) -> int:
        """L, without the EOS."""
        return self.hits.size

    @cached_property
    def es(self) -> float:
        return extraction_strength(self.hits)

    @cached_property
    def em(self) -> float:
        return exact_memorisation(self.hits)

    @cached_property
    def loss(self) -> float:
        """CE: mean cross-entropy over the tokens and the EOS, nats."""
        return -float(self.logprobs.mean())

    @property
    def probability(self) -> float:
        """P(a|q)^{1/L} = exp(−CE)."""
        return math.exp(-self.loss)


@dataclass(frozen=True, eq=False)
class SetScores:
    """The scores of one `AnswerSet`."""

    answer: AnswerScores
    paraphrase: AnswerScores | None
    perturbed: tuple[AnswerScores, ...]

    @property
    def right(self) -> AnswerScores:
        """What wrong answers are held against: the paraphrase, or the answer where there is none."""
        return self.paraphrase or self.answer


def score_answers(
    model: TextModel, version: str, items: Sequence[Fact | QuestionAnswer], *, moments: bool = False
) -> list[AnswerScores]:
    """Each item's answer after its question in the chat template, all in one batch; equal items are run once.

    Args:
        moments: compute `means` and `deviations`, too.

    Raises:
        InvalidRequest: names every empty question or answer, and an item longer than the context.
        VersionNotStaged: the model does not hold `version`.
    """
    texts = [(item.question, item.answer) for item in items]
    faults = [fault for index, pair in enumerate(texts) for fault in _faults(f"items[{index}]", *pair)]
    return _scored(model, version, texts, faults, moments)


def score_sets(
    model: TextModel, version: str, sets: Sequence[AnswerSet], *, moments: bool = False
) -> list[SetScores]:
    """True, paraphrased and wrong answers of every set in one batch; see `score_answers`."""
    texts: list[tuple[str, str]] = []
    faults: list[Violation] = []
    for index, one in enumerate(sets):
        faults += _faults(f"sets[{index}]", one.question, one.answer)
        faults += [
            Violation(f"sets[{index}].perturbed[{place}]", "is empty; write a wrong answer or leave it out")
            for place, text in enumerate(one.perturbed)
            if not text.strip()
        ]
        texts += [(one.question, text) for text in (one.answer, *_paraphrases(one), *one.perturbed)]
    scores = iter(_scored(model, version, texts, faults, moments))
    return [
        SetScores(
            next(scores),
            next(scores) if _paraphrases(one) else None,
            tuple(next(scores) for _ in one.perturbed),
        )
        for one in sets
    ]


def _paraphrases(one: AnswerSet) -> tuple[str, ...]:
    return (one.paraphrase,) if one.paraphrase.strip() else ()


def _faults(name: str, question: str, answer: str) -> Iterator[Violation]:
    if not question.strip():
        yield Violation(f"{name}.question", "is empty; write the question that the answer belongs to")
    if not answer.strip():
        yield Violation(f"{name}.answer", "is empty; write the answer that is to be scored")


def _scored(
    model: TextModel,
    version: str,
    texts: Sequence[tuple[str, str]],
    faults: Sequence[Violation],
    moments: bool,
) -> list[AnswerScores]:
    if faults:
        raise InvalidRequest.of_all(faults)
    distinct = list(dict.fromkeys(texts))
    asked = {question: model.chat_ids(question) for question in dict.fromkeys(text[0] for text in distinct)}
    answers = [model.encode(answer, special=False) for _, answer in distinct]
    pairs = [
        (asked[question], [*answer, model.eos_id])
        for (question, _), answer in zip(distinct, answers, strict=True)
    ]
    forced = model.teacher_forced(pairs, version, moments=moments)
    scores = {
        text: _answer_scores(text[1], answer, one)
        for text, answer, one in zip(distinct, answers, forced, strict=True)
    }
    return [scores[text] for text in texts]


def _answer_scores(text: str, answer: Sequence[int], forced: ForcedTokens) -> AnswerScores:
    return AnswerScores(
        text,
        _floats(forced.logprobs),
        forced.argmax.cpu().numpy()[: len(answer)] == np.asarray(answer),
        None if forced.means is None else _floats(forced.means),
        None if forced.deviations is None else _floats(forced.deviations),
    )


def _floats(values: Tensor) -> NDArray[np.float64]:
    return values.cpu().numpy().astype(np.float64)
