"""Parts of a step in common rows give what each gives alone; MEOW's batches are the paper's."""

from __future__ import annotations

import itertools
from collections.abc import Sequence as SequenceOf

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.facts import Fact
from expunge.unlearning.methods.meow import Meow, MeowMethod, MeowSettings
from expunge.unlearning.parts import CrossEntropy, Part, packed_terms
from expunge.unlearning.peft_tree import TrainableTree
from expunge.unlearning.reference import Kept, Reference
from expunge.unlearning.sequences import ChatEncoder
from tiny_facts import ERASED, OTHERS, RETAINED

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def losses_of(
    model: PreTrainedModel, parts: SequenceOf[Part], row_tokens: int = 512
) -> tuple[dict[str, float], list[Tensor]]:
    """The summed terms by name, and the gradients of their sum."""
    model.zero_grad()
    sums: dict[str, float] = {}
    for terms in packed_terms(model, parts, row_tokens):
        torch.stack(list(terms.losses.values())).sum().backward()
        for name, value in terms.losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    return sums, [p.grad.clone() for p in model.parameters() if p.requires_grad and p.grad is not None]


def test_parts_in_common_rows_give_what_each_gives_alone(tiny_model: Tiny) -> None:
    model, tokenizer = tiny_model
    tree, encoder = TrainableTree.fresh(model, "tiny"), ChatEncoder(tokenizer)
    texts = [encoder.chat(item[0], item[1]) for item in (*ERASED, *RETAINED, *OTHERS)]
    reference = Reference.of(tree.model, texts[2:])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # away from where the reference was taken, so that its divergence is not zero
        for parameter in tree.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    parts = [
        CrossEntropy("taught", texts[:2], 0.7, wrong="wrong"),
        Kept("kept", reference, [1, 0], 2.0),
        CrossEntropy("inverted", texts[1:4], 0.5),
    ]
    alone = [losses_of(tree.model, [part]) for part in parts]
    expected = {name: value for sums, _ in alone for name, value in sums.items()}
    assert min(expected.values()) > 1e-3
    for row_tokens in (64, 4096):  # several rows, and one
        together, gradients = losses_of(tree.model, parts, row_tokens)
        assert together == pytest.approx(expected, rel=1e-4)
        for index, gradient in enumerate(gradients):
            whole = torch.stack([each[index] for _, each in alone]).sum(0)
            torch.testing.assert_close(gradient, whole, rtol=1e-3, atol=1e-6)


def test_meow_trains_on_32_questions_a_step_and_eight_sequences_of_each(tiny_model: Tiny) -> None:
    encoder = ChatEncoder(tiny_model[1])
    facts = [Fact(f"f{index}", f"What is {index}?", "true", ("true",), (), "x") for index in range(70)]
    selected = {fact.id: [f"{fact.id} a", f"{fact.id} b", f"{fact.id} c"] for fact in facts}
    meow = Meow(encoder, facts, selected)
    training = MeowMethod().training(len(facts))
    assert (training.steps, training.warmup) == (30, 3)

    epoch = [meow.parts(step)[0].sequences for step in range(3)]
    assert [len(batch) for batch in epoch] == [32 * 8, 32 * 8, 6 * 8]
    first = [encoder.chat(facts[0].question, selected["f0"][place % 3]) for place in range(8)]
    assert meow.questions[0] == first
    asked = [sequence.prompt for batch in epoch for sequence in batch]
    assert len(set(asked)) == 70
    assert all(asked.count(prompt) == 8 for prompt in set(asked))
    assert [s.prompt for s in meow.parts(3)[0].sequences] != [s.prompt for s in epoch[0]]


def test_meow_warms_up_for_an_epoch_and_then_falls_to_nothing() -> None:
    training = MeowMethod(MeowSettings(epochs=10)).training(64)
    rates = [training.rate(step) / training.learning_rate for step in range(training.steps)]
    assert training.steps == 20
    assert rates[0] < rates[1] < rates[2] == 1.0
    falls = [round(before - after, 6) for before, after in itertools.pairwise(rates[2:])]
    assert falls == [pytest.approx(1 / 18, abs=1e-5)] * len(falls)
