"""Penalties equal those of transformers and the written formula."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import RepetitionPenaltyLogitsProcessor

from expunge.inference.penalties import Penalties
from expunge.inference.request import Sampling

VOCABULARY = 200
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), max_size=150)
SCORES = np.random.default_rng(0).normal(0, 3, VOCABULARY).astype(np.float32)


def penalised(sampling: Sampling, prompt: list[int], answer: list[int]) -> np.ndarray:
    penalties = Penalties(sampling, prompt)
    for token in answer:
        penalties.count(token)
    scores = SCORES.copy()
    penalties.apply(scores)
    return scores


@settings(deadline=None)
@given(TOKENS, TOKENS, st.floats(0.01, 10))
def test_repetition_equals_that_of_transformers(prompt: list[int], answer: list[int], penalty: float) -> None:
    given_ids = torch.tensor([[*prompt, *answer]], dtype=torch.long)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(given_ids, torch.from_numpy(SCORES.copy())[None])[0]
    found = penalised(Sampling(repetition_penalty=penalty), prompt, answer)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


@settings(deadline=None)
@given(TOKENS, TOKENS, st.floats(-2, 2), st.floats(-2, 2), st.floats(0.5, 2))
def test_presence_and_frequency_count_the_answer_only(
    prompt: list[int], answer: list[int], presence: float, frequency: float, repetition: float
) -> None:
    sampling = Sampling(presence_penalty=presence, frequency_penalty=frequency, repetition_penalty=repetition)
    expected = SCORES.astype(np.float64)
    for token in {*prompt, *answer}:
        expected[token] *= 1 / repetition if expected[token] > 0 else repetition
    for token in set(answer):
        expected[token] -= presence + frequency * answer.count(token)
    np.testing.assert_allclose(penalised(sampling, prompt, answer), expected, rtol=1e-4, atol=1e-4)


def test_neutral_values_are_not_asked_for() -> None:
    assert not Penalties.are_asked_for(Sampling(temperature=1.0, seed=3))
    assert Penalties.are_asked_for(Sampling(repetition_penalty=1.1))
    assert Penalties.are_asked_for(Sampling(presence_penalty=-0.1))
    assert Penalties.are_asked_for(Sampling(frequency_penalty=0.1))
