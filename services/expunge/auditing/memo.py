"""MEMO: how much of a text a model has memorised (MEOW, arXiv 2409.11844), batched.

Cuts are character offsets i = 1, 1+w, 1+2w, … In suffix mode the prompt is q + " " + a[:i] and the label
a[i:], cuts over a; in prefix mode the prompt is q[:i] and the label q[i:] + " " + a, cuts over q. Each
cut's greedy generation is scored by ROUGE precision against the label; MEMO is the mean over cuts, 0 where
there are none.

ROUGE knows only the letters a-z and digits: for a text in another script every score is 0 by the paper's own
definition.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from expunge.auditing.continuations import greedy_continuations
from expunge.auditing.metrics.definitions import Definition, definition
from expunge.auditing.metrics.rouge import Rouge, RougeKind
from expunge.auditing.text_model import TextModel
from expunge.errors import InvalidRequest
from expunge.facts import QuestionAnswer

PAPER_MAX_NEW_TOKENS = 200


class MemoMode(StrEnum):
    """Which text the cuts run over: the answer, or the question."""

    SUFFIX = "suffix"
    PREFIX = "prefix"


@dataclass(frozen=True)
class MemoOptions:
    """How MEMO is measured. The defaults are the paper's, without the two traps of its code.

    Attributes:
        mode: suffix or prefix.
        window: characters between cuts, w.
        rouge: ROUGE-1, -2 or -L precision.
        chat: put the question (in prefix mode its cut part) through the chat template; the paper does not.
        paper_compatible: keep special tokens when decoding, as the paper's code does; a perfect copier then
            scores below 1.
        max_cuts: measure at most so many cuts, evenly spread; 0: all.
        max_new_tokens: generation limit; the paper's is 200.
    """

    mode: MemoMode = MemoMode.SUFFIX
    window: int = 5
    rouge: RougeKind = RougeKind.ROUGE_1
    chat: bool = False
    paper_compatible: bool = False
    max_cuts: int = 0
    max_new_tokens: int = PAPER_MAX_NEW_TOKENS

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("max_cuts", 0), ("max_new_tokens", 1)):
            if getattr(self, name) < least:
                raise InvalidRequest.of(name, f"must be at least {least}")

    @property
    def definition(self) -> Definition:
        """What a report names."""
        return definition(
            "memo",
            mode=self.mode.value,
            window=self.window,
            rouge=self.rouge.value,
            chat=self.chat,
            max_new_tokens=self.max_new_tokens,
            max_cuts=self.max_cuts,
            special_tokens=self.paper_compatible,
        )


PAPER_OPTIONS = MemoOptions()


@dataclass(frozen=True)
class MemoCut:
    """One cut: its character offset, the prompt's tokens and the label's text."""

    offset: int
    prompt: tuple[int, ...]
    label: str


@dataclass(frozen=True)
class MemoScore:
    """MEMO of one question and answer.

    Attributes:
        mean: MEMO, in [0, 1].
        per_cut: score of each measured cut.
        cuts: character offsets of the measured cuts.
        cuts_available: how many cuts the definition has; more than `len(cuts)` where `max_cuts` capped them.
        options: how it was measured, caps included.
    """

    mean: float
    per_cut: tuple[float, ...]
    cuts: tuple[int, ...]
    cuts_available: int
    options: MemoOptions

    @property
    def capped(self) -> bool:
        """Whether cuts or generation length were capped below the paper's definition."""
        return len(self.cuts) < self.cuts_available or self.options.max_new_tokens < PAPER_MAX_NEW_TOKENS


@dataclass(frozen=True)
class MemoProfile:
    """Strength and consistency of a model's memory over several answers (the paper's two figures).

    `strength` is the mean MEMO; `variation` its coefficient of variation (population standard deviation
    over the mean): the lower, the more consistent. 0 where the mean is 0.
    """

    strength: float
    variation: float

    @classmethod
    def of(cls, scores: Sequence[MemoScore]) -> MemoProfile:
        means = [score.mean for score in scores]
        strength = statistics.fmean(means) if means else 0.0
        return cls(strength, statistics.pstdev(means) / strength if strength else 0.0)


def cut_offsets(length: int, window: int, max_cuts: int = 0) -> tuple[int, ...]:
    """Offsets 1, 1+w, … below `length`; at most `max_cuts` of them, evenly spread over all (0: every one)."""
    every = range(1, length, window)
    if not max_cuts or len(every) <= max_cuts:
        return tuple(every)
    if max_cuts == 1:
        return (every[len(every) // 2],)
    return tuple(every[round(index * (len(every) - 1) / (max_cuts - 1))] for index in range(max_cuts))


def memo_cuts(model: TextModel, item: QuestionAnswer, options: MemoOptions) -> tuple[MemoCut, ...]:
    """The prompts and labels of one question and answer."""
    question, answer = item.question, item.answer
    if options.mode is MemoMode.PREFIX:
        offsets = cut_offsets(len(question), options.window, options.max_cuts)
        heads = (question[:offset] for offset in offsets)
        prompts = [model.chat_ids(head) if options.chat else model.encode(head) for head in heads]
        labels = [f"{question[offset:]} {answer}" for offset in offsets]
    else:
        offsets = cut_offsets(len(answer), options.window, options.max_cuts)
        if options.chat:
            asked = model.chat_ids(question)
            prompts = [asked + model.encode(answer[:offset], special=False) for offset in offsets]
        else:
            prompts = [model.encode(f"{question} {answer[:offset]}") for offset in offsets]
        labels = [answer[offset:] for offset in offsets]
    return tuple(
        MemoCut(offset, tuple(prompt), label)
        for offset, prompt, label in zip(offsets, prompts, labels, strict=True)
    )


def measure_memo(
    model: TextModel,
    version: str,
    items: Sequence[QuestionAnswer],
    options: MemoOptions = PAPER_OPTIONS,
) -> list[MemoScore]:
    """MEMO of every item under `version`; its cuts are generated as `continuations` says."""
    cuts = [memo_cuts(model, item, options) for item in items]
    flat = [cut for group in cuts for cut in group]
    labels = [model.encode(cut.label, special=False) for cut in flat]
    pairs = [(cut.prompt, label) for cut, label in zip(flat, labels, strict=True)]
    generations = iter(greedy_continuations(model, version, pairs, options.max_new_tokens))
    rouge = Rouge(options.rouge)
    scores = []
    for item, group in zip(items, cuts, strict=True):
        texts = [_text(model, next(generations), options) for _ in group]
        per_cut = tuple(rouge.precision(cut.label, text) for cut, text in zip(group, texts, strict=True))
        over = item.answer if options.mode is MemoMode.SUFFIX else item.question
        scores.append(
            MemoScore(
                mean=statistics.fmean(per_cut) if per_cut else 0.0,
                per_cut=per_cut,
                cuts=tuple(cut.offset for cut in group),
                cuts_available=len(cut_offsets(len(over), options.window)),
                options=options,
            )
        )
    return scores


def _text(model: TextModel, tokens: list[int], options: MemoOptions) -> str:
    if not options.paper_compatible:
        return model.decode(tokens)
    ended = [model.eos_id] if len(tokens) < options.max_new_tokens else []
    return model.decode([*tokens, *ended], skip_special=False)
