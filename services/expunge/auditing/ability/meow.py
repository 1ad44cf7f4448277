"""MEOW's measures of understanding and of generation (arXiv 2409.11844), on the project's own items.

The paper's sets (PIQA, ARC) come from a hub; `harness.py` runs those where it can be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from expunge.auditing.ability.tasks import ChoiceItem
from expunge.auditing.metrics.estimate import Estimate
from expunge.auditing.metrics.generation import bleu, label_accuracy, repetition
from expunge.auditing.text_model import TextModel
from expunge.errors import InvalidRequest

SHOTS = 4
PROMPT_TOKENS = 32
_LABELS = "ABCDEFGH"
_LABEL_TOKENS = 8  # enough for the ten characters that are looked at
_CONTINUATION_TOKENS = 48


@dataclass(frozen=True)
class Generation:
    """How a version goes on: `rep_3` of its continuations, and their BLEU against the true ones."""

    rep_3: Estimate
    bleu: float

    def to_dict(self) -> dict[str, Any]:
        return {"rep_3": self.rep_3.to_dict(), "bleu": self.bleu}


def understanding(model: TextModel, version: str, items: Sequence[ChoiceItem]) -> Estimate:
    """Share of items whose label is in the first characters of the reply, after four solved ones.

    Raw text, greedy. The first four items are the examples; the right choice's place goes round.

    Raises:
        InvalidRequest: there are no more than four items.
        VersionNotStaged: the model does not hold `version`.
    """
    if len(items) <= SHOTS:
        raise InvalidRequest.of("items", f"needs more than the {SHOTS} that are the examples")
    asked = [_labelled(item, place) for place, item in enumerate(items)]
    examples = "".join(f"{text} {label}\n\n" for text, label in asked[:SHOTS])
    prompts = [model.encode(examples + text) for text, _ in asked[SHOTS:]]
    replies = [model.decode(ids) for ids in model.greedy(prompts, version, _LABEL_TOKENS)]
    return label_accuracy([label for _, label in asked[SHOTS:]], replies)


def generation(model: TextModel, version: str, passages: Sequence[str]) -> Generation:
    """Continuations of the first 32 tokens of each passage, raw text, greedy, at most 48 tokens.

    Raises:
        InvalidRequest: no passages, or one without more than 32 tokens.
        VersionNotStaged: the model does not hold `version`.
    """
    tokens = [model.encode(passage) for passage in passages]
    for index, ids in enumerate(tokens):
        if len(ids) <= PROMPT_TOKENS:
            raise InvalidRequest.of(f"passages[{index}]", f"needs more than {PROMPT_TOKENS} tokens")
    prompts = [ids[:PROMPT_TOKENS] for ids in tokens]
    limits = [min(len(ids) - PROMPT_TOKENS, _CONTINUATION_TOKENS) for ids in tokens]
    texts = [model.decode(ids) for ids in model.greedy(prompts, version, limits)]
    truths = [
        model.decode(ids[PROMPT_TOKENS : PROMPT_TOKENS + limit])
        for ids, limit in zip(tokens, limits, strict=True)
    ]
    return Generation(repetition(texts), bleu(truths, texts))


@cache
def shipped_passages() -> tuple[str, ...]:
    """The passages that come along."""
    file = resources.files("expunge.auditing") / "data" / "abilities" / "passages.yaml"
    return tuple(yaml.safe_load(file.read_text(encoding="utf-8"))["passages"])


def _labelled(item: ChoiceItem, place: int) -> tuple[str, str]:
    """The question with its choices, the right one at `place` (modulo their number), and the right label."""
    right = place % len(item.choices)
    others = list(item.choices[1:])
    choices = [*others[:right], item.choices[0], *others[right:]]
    lines = [f"{label}. {choice}" for label, choice in zip(_LABELS, choices, strict=False)]
    return "\n".join((f"Question: {item.question}", *lines, "Answer:")), _LABELS[right]
