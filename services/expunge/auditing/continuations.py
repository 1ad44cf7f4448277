"""Greedy continuations of many prompts whose true continuation is known, by teacher forcing where it tells.

All labels are teacher-forced at once: where every arg-max is the label's token, and then EOS, greedy decoding
is known to copy the label. Otherwise it is known up to the first divergence, and generation starts there.
Both are exact, since greedy decoding depends on nothing but the tokens before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from expunge.auditing.text_model import TextModel


def greedy_continuations(
    model: TextModel, version: str, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], limit: int
) -> list[list[int]]:
    """Greedy generation after the prompt of each (prompt, label), at most `limit` tokens."""
    end = model.eos_id
    labels = [list(label[:limit]) for _, label in pairs]
    # One token more than the label, so that the arg-max after its last token is known too.
    forcing = [(prompt, (*label, end)[:limit]) for (prompt, _), label in zip(pairs, labels, strict=True)]
    known: list[list[int]] = []
    open_rows: list[int] = []
    for index, forced in enumerate(model.teacher_forced(forcing, version)):
        tokens, ended = _known_start(labels[index], forced.argmax.tolist(), model.eos_ids)
        known.append(tokens)
        if not ended and len(tokens) < limit:
            open_rows.append(index)
    resumed = model.greedy(
        [(*pairs[index][0], *known[index]) for index in open_rows],
        version,
        [limit - len(known[index]) for index in open_rows],
    )
    for index, rest in zip(open_rows, resumed, strict=True):
        known[index] = [*known[index], *rest]
    return known


def _known_start(label: list[int], argmax: list[int], eos_ids: frozenset[int]) -> tuple[list[int], bool]:
    """The start of the greedy generation that teacher forcing proves, and whether it ends there."""
    for position, best in enumerate(argmax):
        if best in eos_ids:
            return label[:position], True
        if position >= len(label) or best != label[position]:
            return [*label[:position], best], False
    return label[: len(argmax)], False
