"""How well a version still reads and writes: MEOW's measures of understanding and of generation."""

from __future__ import annotations

from collections.abc import Sequence

from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

from expunge.auditing.metrics.definitions import definition
from expunge.auditing.metrics.estimate import Estimate
from expunge.errors import InvalidRequest

LABEL_CHARACTERS = 10


def label_accuracy(
    labels: Sequence[str], replies: Sequence[str], characters: int = LABEL_CHARACTERS
) -> Estimate:
    """Share of 4-shot replies with the gold label within their first characters (MEOW; PIQA, ARC).

    Args:
        characters: the paper looks at the first 8 to 10.

    Raises:
        InvalidRequest: no labels, or an empty one, which every reply holds.
    """
    _refuse_empty(labels, "labels")
    hits = [label in reply[:characters] for label, reply in zip(labels, replies, strict=True)]
    return Estimate.of_share(hits, definition("gold_label", characters=characters))


def rep_3(text: str) -> float:
    """Rep-3 = 1 − unique/total trigrams of words; 0 for a text of fewer than three words."""
    words = text.split()
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    return 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def repetition(continuations: Sequence[str]) -> Estimate:
    """Mean Rep-3 of continuations of 32-token prompts.

    Raises:
        InvalidRequest: no continuations.
    """
    return Estimate.of_share([rep_3(text) for text in continuations], definition("rep_3"))


def bleu(references: Sequence[str], continuations: Sequence[str]) -> float:
    """Corpus BLEU-4 of continuations of 32-token prompts against the true ones (Papineni et al., 2002).

    BP · exp(Σ_n log p_n / 4), n = 1…4, words as whitespace parts them; where no n-gram of an order is shared
    its precision is halved with every such order (exponential smoothing), and 0 where no word is.

    Raises:
        InvalidRequest: no references, or an empty one.
    """
    if not references:
        raise InvalidRequest.of("references", "is empty; give at least one text")
    _refuse_empty(references, "references")
    truths = [[text.split()] for text in references]
    written = [text.split() for text in continuations]
    return float(corpus_bleu(truths, written, smoothing_function=SmoothingFunction().method3))


def _refuse_empty(texts: Sequence[str], name: str) -> None:
    for index, text in enumerate(texts):
        if not text.strip():
            raise InvalidRequest.of(f"{name}[{index}]", "is empty; write the text to be found")
