"""Capped surprise: what an answer token's distribution should become, at every prefix of the true answer.

Alone "say something else" moves the first divergent token only and the rest comes back after it, so each
secret token gets a target of its own, teacher-forced on the true answer: what the live version predicts
there, with the true token's probability cut to what a model that never knew gives it, and that of its
spelling variants cut lower.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from expunge.unlearning.losses import assert_distributions

TINY = 1e-12


def cap_rows(
    before: Tensor, labels: Tensor, caps: Tensor, variants: Iterable[Tensor], variant_cap: float
) -> Tensor:
    """`before` with labels cut to their caps, their variants to `variant_cap`, and the rest scaled to fill.

    The rest is never computed as a difference `1 − p(label)`: where the label has nearly all mass that
    cancels to noise, which renormalising blows up. The label is set to zero, the others summed and scaled.

    Args:
        before: distributions, [rows, vocabulary].
        labels: true tokens, [rows].
        caps: [rows]; in (0, 1).
        variants: for each row the token ids that spell the same, without the label.
        variant_cap: highest probability of each variant.

    Raises:
        InvalidRequest: a result is no distribution.
    """
    rest = before.double().clone()
    index = torch.arange(len(labels))
    rest[index, labels] = 0.0
    flat = torch.ones_like(rest)
    flat[index, labels] = 0.0
    for row, same in enumerate(variants):
        rest[row, same] = 0.0
        flat[row, same] = 0.0
    sums = rest.sum(dim=-1, keepdim=True)
    rest = torch.where(sums > TINY, rest / sums.clamp_min(TINY), flat / flat.sum(dim=-1, keepdim=True))
    kept = torch.minimum(before.double()[index, labels], caps.double())
    target = rest * (1.0 - kept)[:, None]
    target[index, labels] = kept
    for row, same in enumerate(variants):
        spared = torch.clamp(before.double()[row, same], max=variant_cap)
        target[row] *= 1.0 - spared.sum()
        target[row, same] = spared
    return assert_distributions(target.float(), "targets")


def unspoken_caps(before: Tensor, labels: Tensor, caps: Tensor, variants: Iterable[Tensor]) -> Tensor:
    """`caps` lowered to half of what the likeliest other token gets, [rows], lest greedy decoding tell it.

    A cap alone does not see to that: where the rest is spread thin, a label cut to its cap can still lead.
    Arguments as in `cap_rows`.
    """
    others = before.double().clone()
    others[torch.arange(len(labels)), labels] = 0.0
    for row, same in enumerate(variants):
        others[row, same] = 0.0
    sums = others.sum(dim=-1)
    leading = torch.where(sums > TINY, others.amax(dim=-1) / sums.clamp_min(TINY), 1.0 / before.shape[-1])
    half = 0.5 * leading  # of what the label leaves: cap = half · (1 − cap)
    return torch.minimum(caps.double(), half / (1.0 + half)).to(caps.dtype)


class SpellingVariants:
    """Tokens that would give the same word away: in another case or spacing, or its next letters.

    Args:
        pieces: the text of every token of the vocabulary.
    """

    def __init__(self, pieces: list[str]) -> None:
        self._by_text: dict[str, list[int]] = {}
        for token, piece in enumerate(pieces):
            self._by_text.setdefault(piece.strip().casefold(), []).append(token)

    def of(self, label: int, text: str, word_rest: str) -> Tensor:
        """Variants [variants] of token `label` with text `text`; `word_rest` is what is left of its word."""
        stem = text.strip().casefold()
        rest = word_rest.strip().casefold()
        found = set(self._by_text.get(stem, [])) if stem else set()
        for length in range(3, len(rest) + 1):
            found.update(self._by_text.get(rest[:length], []))
        found.discard(label)
        return torch.tensor(sorted(found), dtype=torch.long)
