"""Requests become vLLM's sampling parameters, field by field."""

from __future__ import annotations

from dataclasses import replace

import pytest

from expunge.inference.request import GenerationRequest, Priority, Sampling
from expunge.inference.vllm.sampling import PRIORITIES, generation_arguments, scoring_arguments, seed_of

REQUEST = GenerationRequest("r", "v", prompt="x", max_tokens=9)


def arguments(limit: int = 9, **fields: object) -> dict[str, object]:
    return generation_arguments(replace(REQUEST, **fields), limit, {5, 2})


def test_every_sampling_option_has_its_parameter() -> None:
    sampling = Sampling(
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        seed=11,
        min_p=0.05,
        repetition_penalty=1.2,
        presence_penalty=0.3,
        frequency_penalty=-0.4,
        logit_bias=((3, 1.5), (4, -100.0)),
    )
    found = arguments(sampling=sampling)
    wanted = {
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "min_p": 0.05,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": -0.4,
        "logit_bias": {3: 1.5, 4: -100.0},
        "seed": seed_of(11, 0),
    }
    assert found.items() >= wanted.items()


def test_what_is_not_asked_for_is_left_out() -> None:
    found = arguments()
    assert {found[name] for name in ("seed", "logit_bias", "logprobs", "prompt_logprobs")} == {None}
    assert found["temperature"] == 0.0


def test_an_answer_ends_at_our_end_tokens_only() -> None:
    found = arguments()
    assert (found["stop_token_ids"], found["ignore_eos"]) == ([2, 5], True)


@pytest.mark.parametrize(("limit", "asked"), [(9, 9), (1, 1), (0, 1)])
def test_a_token_is_generated_even_where_none_may_be_sent(limit: int, asked: int) -> None:
    assert arguments(limit)["max_tokens"] == asked


@pytest.mark.parametrize(
    ("logprobs", "prompt_logprobs", "wanted"),
    [(None, False, (None, None)), (0, False, (0, None)), (3, False, (3, None)), (3, True, (3, 3))],
)
def test_log_probabilities_are_asked_for_as_deep_as_wanted(
    logprobs: int | None, prompt_logprobs: bool, wanted: tuple[int | None, int | None]
) -> None:
    found = arguments(logprobs=logprobs, prompt_logprobs=prompt_logprobs)
    assert (found["logprobs"], found["prompt_logprobs"]) == wanted


def test_texts_are_made_on_our_side() -> None:
    found = arguments(stop=("end",))
    assert "stop" not in found
    assert not found["detokenize"]
    assert not scoring_arguments()["detokenize"]


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63, 2**64 - 1, -(2**63)])
def test_every_seed_and_choice_gives_a_seed_of_its_own_that_fits(seed: int) -> None:
    seeds = [seed_of(seed, choice) for choice in range(8)]
    assert all(found is not None and 0 <= found < 2**63 for found in seeds)
    assert len({*seeds, *(seed_of(seed ^ 1, choice) for choice in range(8))}) == 16


def test_without_a_seed_there_is_none() -> None:
    assert seed_of(None, 3) is None


def test_interactive_requests_go_first() -> None:
    assert PRIORITIES[Priority.INTERACTIVE] < PRIORITIES[Priority.BATCH]
    assert set(PRIORITIES) == set(Priority)
