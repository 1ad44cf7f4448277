"""What can't be run is refused with the field named, every problem together."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from expunge.errors import InvalidRequest
from expunge.inference.request import GenerationRequest, Message, Sampling
from expunge.inference.validation import check_generation

VOCABULARY = 560
GOOD = GenerationRequest("r", "v", prompt="The dog")


def named(**fields: Any) -> list[str]:
    """The fields that are refused."""
    try:
        check_generation(replace(GOOD, **fields), VOCABULARY)
    except InvalidRequest as error:
        return [violation.field for violation in error.violations]
    return []


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompt": None, "prompt_tokens": (0, 559)},
        {"prompt": None, "messages": (Message("user", "x"),)},
        {"logprobs": 0},
        {"logprobs": 20, "prompt_logprobs": True, "max_tokens": 0},
        {"choice": 7},
    ],
)
def test_good_requests_pass(fields: dict[str, Any]) -> None:
    assert named(**fields) == []


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt_tokens": (1,)}, "prompt"),
        ({"prompt": None, "prompt_tokens": (1,), "messages": (Message("user", "x"),)}, "prompt"),
        ({"prompt": None, "prompt_tokens": (3, 560)}, "prompt_tokens[1]"),
        ({"prompt": None, "prompt_tokens": (-1,)}, "prompt_tokens[0]"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 0, "logprobs": 1}, "max_tokens"),
        ({"max_tokens": -1, "logprobs": 1, "prompt_logprobs": True}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"prompt_logprobs": True}, "prompt_logprobs"),
        ({"choice": -1}, "choice"),
        ({"stop": ("x",) * 17}, "stop"),
    ],
)
def test_a_bad_request_is_named(fields: dict[str, Any], field: str) -> None:
    assert named(**fields) == [field]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("temperature", (0.0, 1e-9, 100.0), (-0.1, 100.1)),
        ("top_p", (1e-9, 1.0), (0.0, 1.1, -0.5)),
        ("top_k", (0, 1, 10**9), (-1,)),
        ("min_p", (0.0, 0.99), (1.0, -0.1)),
        ("repetition_penalty", (0.01, 10.0), (0.0, 0.009, 10.1, -1.0)),
        ("presence_penalty", (-2.0, 2.0), (-2.1, 2.1)),
        ("frequency_penalty", (-2.0, 2.0), (-2.1, 2.1)),
        ("seed", (None, 0, 2**64 - 1, -(2**63)), (2**64, -(2**63) - 1)),
    ],
)
def test_options_have_bounds(name: str, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    assert [named(sampling=Sampling(**{name: value})) for value in good] == [[]] * len(good)
    unusable = bad if name in ("seed", "top_k") else (*bad, math.nan, math.inf, -math.inf)
    for value in unusable:
        assert named(sampling=Sampling(**{name: value})) == [f"sampling.{name}"], value


def test_biases_have_bounds() -> None:
    def refused(*biases: tuple[int, float]) -> list[str]:
        return named(sampling=Sampling(logit_bias=biases))

    assert refused((0, 100.0), (559, -100.0)) == []
    assert refused((560, 1.0), (-1, 1.0)) == ["sampling.logit_bias[560]", "sampling.logit_bias[-1]"]
    for bias in (100.1, -100.1, math.nan, math.inf):
        assert refused((7, bias)) == ["sampling.logit_bias[7]"]
    assert refused((7, 1.0), (8, 1.0), (7, 2.0)) == ["sampling.logit_bias[7]"]
    assert refused(*((token % 500, 1.0) for token in range(1025))) == ["sampling.logit_bias"]


def test_all_problems_are_named_together() -> None:
    sampling = Sampling(temperature=math.nan, min_p=2.0, frequency_penalty=9.0, logit_bias=((999, 0.0),))
    found = named(prompt="", max_tokens=-5, logprobs=99, stop=("",), choice=-2, sampling=sampling)
    assert set(found) == {
        "prompt",
        "max_tokens",
        "logprobs",
        "stop[0]",
        "choice",
        "sampling.temperature",
        "sampling.min_p",
        "sampling.frequency_penalty",
        "sampling.logit_bias[999]",
    }


def test_a_million_unknown_tokens_make_a_short_answer() -> None:
    assert len(named(prompt=None, prompt_tokens=(10**9,) * 10**6)) == 10
