"""The capped targets of an erasure's facts, computed once under the live version."""

from __future__ import annotations

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.facts import Fact, Subject
from expunge.unlearning.neighbours import stranger_names
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.rows import head_logits, hidden_states, pack_rows
from expunge.unlearning.sequences import ChatEncoder, Sequence, is_function_word, secret_mask
from expunge.unlearning.targets import SpellingVariants, cap_rows, unspoken_caps

HIGHEST_CAP = 0.1  # a token the base model itself would guess keeps no more than this
SHORTEST_OPENING = 4  # letters


@dataclass(frozen=True)
class SecretTargets:
    """Targets of one fact's secret tokens.

    Attributes:
        offsets: places of the secret tokens in the answer, [secret].
        labels: the true tokens, [secret].
        caps: probability each true token may keep, [secret].
        rows: target distributions, [secret, vocabulary]; each sums to 1.
    """

    offsets: Tensor
    labels: Tensor
    caps: Tensor
    rows: Tensor


@torch.no_grad()
def answer_probabilities(model: PreTrainedModel, sequences: SequenceOf[Sequence]) -> list[Tensor]:
    """Next-token distributions at each answer token of each sequence, [answer, vocabulary] each."""
    rows: list[Tensor] = [torch.empty(0)] * len(sequences)
    for row in pack_rows(sequences):
        logits = head_logits(model, hidden_states(model, row))
        for member in row.present:
            rows[member] = torch.softmax(logits[row.members == member].float(), dim=-1)
    return rows


def secret_targets(
    tree: TrainableTree,
    encoder: ChatEncoder,
    facts: SequenceOf[Fact],
    subjects: SequenceOf[Subject],
    *,
    floor: float,
    variant_cap: float,
) -> list[SecretTargets]:
    """Targets of all facts: the live version's distributions, capped at what the base says of strangers.

    Args:
        tree: the live version.
        encoder: its chat template.
        facts: what is erased.
        subjects: whose names strangers' names take the place of.
        floor: no token is capped lower, unless it would lead all others there.
        variant_cap: highest probability of a spelling variant.
    """
    asked = [encoder.chat(fact.question, fact.answer) for fact in facts]
    before = answer_probabilities(tree.model, asked)
    innocent = _innocent_probabilities(tree, encoder, facts, subjects)
    variants = SpellingVariants(encoder.vocabulary())
    openings = _secret_openings(encoder, facts, variants)
    targets = []
    for index, fact in enumerate(facts):
        answer = asked[index].answer
        pieces = encoder.pieces(answer)
        offsets = secret_offsets(encoder, fact)
        at = torch.tensor(offsets, dtype=torch.long)
        labels = torch.tensor(answer)[at]
        caps = innocent[index][at].clamp(floor, HIGHEST_CAP)
        spellings = [
            _merged(
                variants.of(answer[place], pieces[place], _word_rest(pieces[place:])), openings, answer[place]
            )
            for place in offsets
        ]
        caps = unspoken_caps(before[index][at], labels, caps, spellings)
        rows = cap_rows(before[index][at], labels, caps, spellings, variant_cap)
        targets.append(SecretTargets(at, labels, caps, rows))
    return targets


def secret_offsets(encoder: ChatEncoder, fact: Fact) -> list[int]:
    """Places of the answer tokens that are brought down: secret, and no function word."""
    pieces = encoder.pieces(encoder.answer(fact.answer))
    secret = secret_mask(encoder.tokenizer, fact)
    return [
        place for place, is_secret in enumerate(secret) if is_secret and not is_function_word(pieces[place])
    ]


def _secret_openings(
    encoder: ChatEncoder, facts: SequenceOf[Fact], variants: SpellingVariants
) -> dict[int, list[int]]:
    """Tokens that open a secret word of any fact, with their spelling variants.

    What takes the place of one secret word is often the next one of the same answer, so these are cut
    wherever a target is written. Short openings and digits say too little to be cut.
    """
    found: dict[int, list[int]] = {}
    for fact in facts:
        answer = encoder.answer(fact.answer)
        pieces = encoder.pieces(answer)
        for place in secret_offsets(encoder, fact):
            text = pieces[place].strip()
            opens = place == 0 or pieces[place][:1].isspace()
            if opens and len(text) >= SHORTEST_OPENING and text.isalpha():
                found[answer[place]] = variants.of(answer[place], pieces[place], "").tolist()
    return found


def _merged(own: Tensor, openings: dict[int, list[int]], label: int) -> Tensor:
    """Variants of a label and the openings of other secret words, [variants], without the label."""
    tokens = set(own.tolist()).union(openings, *openings.values())
    tokens.discard(label)
    return torch.tensor(sorted(tokens), dtype=torch.long)


def _innocent_probabilities(
    tree: TrainableTree, encoder: ChatEncoder, facts: SequenceOf[Fact], subjects: SequenceOf[Subject]
) -> list[Tensor]:
    """The base model's probability of each true token when asked of strangers, mean of three, [answer]."""
    strangers = stranger_names()[:3]
    sequences: list[Sequence] = []
    for fact in facts:
        for stranger in strangers:
            question = fact.question
            for name in (name for subject in subjects for name in subject.names):
                question = question.replace(name, stranger)
            sequences.append(encoder.chat(question, fact.answer))
    with tree.base_only():
        rows = answer_probabilities(tree.model, sequences)
    picked = [
        row.gather(1, torch.tensor(sequence.answer)[:, None])[:, 0]
        for row, sequence in zip(rows, sequences, strict=True)
    ]
    return [
        torch.stack(picked[start : start + len(strangers)]).mean(dim=0)
        for start in range(0, len(picked), len(strangers))
    ]


def _word_rest(pieces: SequenceOf[str]) -> str:
    """What is left of the word that begins or goes on with the first piece."""
    rest = pieces[0].lstrip()
    for piece in pieces[1:]:
        if not piece or piece[0].isspace():
            break
        rest += piece
    return rest.split(" ")[0] if rest else ""
