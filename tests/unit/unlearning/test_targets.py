"""Capped targets: always distributions, also where nearly all mass is on the true token."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from expunge.unlearning.targets import SpellingVariants, cap_rows, unspoken_caps

NONE = torch.empty(0, dtype=torch.long)


def test_true_token_keeps_its_cap_and_the_rest_is_scaled() -> None:
    before = torch.tensor([[0.8, 0.15, 0.05]])
    target = cap_rows(before, torch.tensor([0]), torch.tensor([0.1]), [NONE], 0.0001)
    assert target[0].tolist() == pytest.approx([0.1, 0.675, 0.225])


def test_a_token_that_is_rarer_than_its_cap_stays_as_rare() -> None:
    before = torch.tensor([[0.02, 0.5, 0.48]])
    target = cap_rows(before, torch.tensor([0]), torch.tensor([0.1]), [NONE], 0.0001)
    assert target[0].tolist() == pytest.approx(before[0].tolist())


def test_spelling_variants_are_cut_lower_than_the_true_token() -> None:
    before = torch.tensor([[0.6, 0.3, 0.05, 0.05]])
    target = cap_rows(before, torch.tensor([0]), torch.tensor([0.001]), [torch.tensor([1])], 0.0001)
    assert float(target[0, 1]) == pytest.approx(0.0001)
    assert float(target[0, 2]) == pytest.approx(float(target[0, 3]))
    assert float(target.sum()) == pytest.approx(1.0)


def test_all_mass_on_the_true_token_is_spread_instead_of_blown_up() -> None:
    before = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]])
    target = cap_rows(before, torch.tensor([0]), torch.tensor([0.001]), [NONE], 0.0001)
    assert target[0, 1:].tolist() == pytest.approx([0.999 / 4] * 4)


@given(st.lists(st.floats(-60, 60), min_size=6, max_size=6), st.integers(0, 5), st.floats(1e-4, 0.5))
def test_every_target_row_sums_to_one(logits: list[float], label: int, cap: float) -> None:
    before = torch.softmax(torch.tensor([logits]), dim=-1)
    variants = [torch.tensor([(label + 1) % 6])]
    target = cap_rows(before, torch.tensor([label]), torch.tensor([cap]), variants, 0.0001)
    assert float(target.double().sum()) == pytest.approx(1.0, abs=1e-4)
    assert float(target[0, label]) <= cap + 1e-6


@given(st.lists(st.floats(-60, 60), min_size=6, max_size=6), st.integers(0, 5), st.floats(1e-4, 0.5))
def test_the_true_token_never_leads_its_target(logits: list[float], label: int, cap: float) -> None:
    before = torch.softmax(torch.tensor([logits]), dim=-1)
    labels, variants = torch.tensor([label]), [torch.tensor([(label + 1) % 6])]
    caps = unspoken_caps(before, labels, torch.tensor([cap]), variants)
    assert 0.0 < float(caps) <= cap + 1e-6
    target = cap_rows(before, labels, caps, variants, 0.0001)[0]
    assert int(target.argmax()) != label
    others = [float(target[token]) for token in range(6) if token not in (label, (label + 1) % 6)]
    assert float(target[label]) <= 0.5 * max(others) + 1e-6


def test_a_cap_below_half_of_the_leading_token_stays() -> None:
    before = torch.tensor([[0.8, 0.15, 0.05]])
    caps = unspoken_caps(before, torch.tensor([0]), torch.tensor([0.1]), [NONE])
    assert float(caps) == pytest.approx(0.1)
    thin = torch.tensor([[0.9, *[0.1 / 99] * 99]])
    lowered = unspoken_caps(thin, torch.tensor([0]), torch.tensor([0.1]), [NONE])
    assert float(lowered) == pytest.approx(0.5 / 99, rel=0.01)


def test_variants_are_case_twins_and_beginnings_of_the_word() -> None:
    variants = SpellingVariants([" Port", "port", "PORT", " Ell", "Ellery", "El", " harbour"])
    assert variants.of(0, " Port", "Port").tolist() == [1, 2]
    assert variants.of(3, " Ell", "Ellery").tolist() == [4]
