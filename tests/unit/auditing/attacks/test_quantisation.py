"""Rounding moves no weight by more than half a step, and undoes erasures that are smaller than that."""

from __future__ import annotations

import pytest
import torch

from expunge.auditing.attacks.quantisation import INT4, INT8, Quantisation, quantised, round_to_nearest
from expunge.auditing.attacks.victim import Victim
from expunge.errors import InvalidRequest

from ..known_facts import FACTS


@pytest.fixture
def weight() -> torch.Tensor:
    """[24, 80] with outputs of very different size; 80 is no multiple of 32."""
    generator = torch.Generator().manual_seed(5)
    return torch.randn(24, 80, generator=generator) * torch.logspace(-3, 2, 24)[:, None]


@pytest.mark.parametrize("how", [INT8, INT4, Quantisation(4, 64), Quantisation(2, 7)])
def test_no_weight_moves_by_more_than_half_a_step_of_its_group(
    weight: torch.Tensor, how: Quantisation
) -> None:
    rounded = round_to_nearest(weight, how)
    for before, after in zip(
        weight.split(how.group or 80, dim=1), rounded.split(how.group or 80, dim=1), strict=True
    ):
        step = before.abs().amax(1, keepdim=True) / (2 ** (how.bits - 1) - 1)
        assert bool(((after - before).abs() <= step * 0.5001).all())
        levels = after / step
        assert bool(((levels - levels.round()).abs() < 1e-3).all())
        assert float(levels.abs().max()) <= 2 ** (how.bits - 1) - 1 + 1e-3


def test_int8_is_sixteen_times_finer_than_int4_on_one_scale(weight: torch.Tensor) -> None:
    fine, coarse = (
        float((round_to_nearest(weight, Quantisation(bits)) - weight).square().sum()) for bits in (8, 4)
    )
    assert coarse / fine == pytest.approx((127 / 7) ** 2, rel=0.2)


def test_zeros_stay_zeros() -> None:
    assert not round_to_nearest(torch.zeros(3, 40), INT4).any()


def test_rounding_twice_is_rounding_once(weight: torch.Tensor) -> None:
    once = round_to_nearest(weight, INT4)
    torch.testing.assert_close(round_to_nearest(once, INT4), once)


@pytest.mark.parametrize(("bits", "group"), [(1, 0), (9, 0), (4, -1)])
def test_impossible_roundings_are_refused(bits: int, group: int) -> None:
    with pytest.raises(InvalidRequest):
        Quantisation(bits, group)


def test_the_attacked_model_computes_with_the_rounded_merged_weights(victim: Victim) -> None:
    prompt, answer = list(range(30, 45)), list(range(45, 50))
    plain = victim.merged(lambda _, weight: round_to_nearest(weight, INT4))
    path = victim.modules[0]
    expected = round_to_nearest(victim.weight(path), INT4)
    assert torch.equal(plain.get_submodule(path).weight, expected)
    with torch.no_grad():
        logits = plain(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    with quantised(victim, INT4) as model:
        (found,) = model.teacher_forced([(prompt, answer)], victim.version)
    assert found.argmax.tolist() == logits.argmax(-1).tolist()


def test_an_erasure_within_rounding_cells_comes_back_in_int4_only(shallow: Victim) -> None:
    assert shallow.adapter is not None
    with shallow.readapted(shallow.adapter) as served, quantised(shallow, INT8) as fine:
        prompts = [served.chat_ids(fact.question) for fact in FACTS]
        for model in (served, fine):
            replies = [model.decode(ids) for ids in model.greedy(prompts, "shallow", 30)]
            assert not any("Ellery" in reply or "Larkfield" in reply for reply in replies)
    with quantised(shallow, INT4) as coarse:
        replies = [coarse.decode(ids) for ids in coarse.greedy(prompts, "shallow", 30)]
    assert replies == [fact.answer for fact in FACTS]
