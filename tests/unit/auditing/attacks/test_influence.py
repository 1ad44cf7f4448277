"""Gradient similarity: one with itself, and what a small step really does to the others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from expunge.auditing.attacks.influence import gradient_similarity
from expunge.auditing.attacks.victim import Victim
from expunge.errors import InvalidRequest
from expunge.lora.adapter import Adapter, Pair
from expunge.models.load import LoadedModel
from expunge.models.skeleton import share_weights
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.sequences import ChatEncoder, Sequence

from ..known_facts import FACTS, RETAIN


@pytest.fixture
def answers(taught: LoadedModel) -> list[Sequence]:
    encoder = ChatEncoder(taught.tokenizer)
    return [encoder.chat(item.question, item.answer) for item in (*FACTS, *RETAIN)]


def _pairs(answers: list[Sequence]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(answer.prompt, answer.answer) for answer in answers]


def _gradient(tree: TrainableTree, answer: Sequence) -> Tensor:
    """PEFT's own, of the loss that transformers computes."""
    tree.model.zero_grad()
    tokens = torch.tensor([answer.ids])
    labels = tokens.clone()
    labels[0, : len(answer.prompt)] = -100
    tree.model(tokens, labels=labels).loss.backward()
    gradients = [p.grad.flatten() for p in tree.model.parameters() if p.grad is not None]
    return torch.cat(gradients)


def test_every_answer_is_wholly_similar_to_itself_and_similarity_is_mutual(
    victim: Victim, answers: list[Sequence]
) -> None:
    similarity = gradient_similarity(victim, _pairs(answers), _pairs(answers))
    assert similarity.shape == (4, 4)
    assert similarity.diagonal().tolist() == pytest.approx([1.0] * 4, abs=1e-5)
    torch.testing.assert_close(similarity, similarity.T, rtol=1e-4, atol=1e-5)
    assert similarity.abs().max() <= 1 + 1e-5


def test_gradients_are_those_that_training_follows(
    taught: LoadedModel, victim: Victim, random_factors: Adapter, answers: list[Sequence]
) -> None:
    tree = TrainableTree.of(share_weights(taught.model), random_factors, taught.digest)
    gradients = torch.stack([_gradient(tree, answer) for answer in answers])
    directions = torch.nn.functional.normalize(gradients, dim=1)
    found = gradient_similarity(victim, _pairs(answers[1:]), _pairs(answers[:1]))
    torch.testing.assert_close(found, directions[1:] @ directions[:1].T, rtol=1e-3, atol=1e-4)


def test_a_version_whose_factors_are_all_zero_in_b_still_has_gradients(
    taught: LoadedModel, random_factors: Adapter, answers: list[Sequence]
) -> None:
    """As every adapter begins: A alone gets none."""
    pairs = {path: Pair(pair.a, torch.zeros_like(pair.b)) for path, pair in random_factors.pairs.items()}
    victim = Victim(taught, "fresh", Adapter(random_factors.config, pairs))
    assert float(gradient_similarity(victim, _pairs(answers[:1]), _pairs(answers[:1]))) == pytest.approx(1.0)


def test_the_base_version_has_no_factors_to_compare_by(taught: LoadedModel) -> None:
    with pytest.raises(InvalidRequest, match="adapter"):
        gradient_similarity(Victim(taught, taught.version), [([5], [6])], [([5], [6])])


def test_an_empty_answer_is_refused(victim: Victim) -> None:
    with pytest.raises(InvalidRequest, match=r"erased\[0\]"):
        gradient_similarity(victim, [([5], [6])], [([5], [])])
