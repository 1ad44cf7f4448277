"""What a request is estimated to cost."""

from __future__ import annotations

from expunge.gateway.demand import Demand
from expunge.inference.request import GenerationRequest, Message, ScoreRequest


def test_a_prompt_is_estimated_by_its_characters_and_the_answer_by_its_limit() -> None:
    asked = GenerationRequest("r", "v", prompt="x" * 41, max_tokens=30, deadline=7.0)
    assert Demand.of_generations([asked]) == Demand(11, 30, 1, 7.0)
    assert Demand.of_generations([asked]).tokens == 41


def test_a_conversation_counts_all_of_its_turns() -> None:
    turns = (Message("user", "x" * 8), Message("assistant", "y" * 4))
    assert Demand.of_generations([GenerationRequest("r", "v", messages=turns)]).prompt_tokens == 3


def test_token_ids_need_no_estimate() -> None:
    assert Demand.of_generations([GenerationRequest("r", "v", prompt_tokens=(1, 2, 3))]).prompt_tokens == 3


def test_several_answers_cost_several_times_as_much() -> None:
    asked = GenerationRequest("r", "v", prompt="x" * 40, max_tokens=30)
    assert Demand.of_generations([asked] * 4).tokens == 4 * 40


def test_a_score_generates_nothing() -> None:
    assert Demand.of_score(ScoreRequest("r", "v", "x" * 8, "y" * 8, 7.0)) == Demand(4, 0, 1, 7.0)


def test_prompts_of_one_call_cost_as_much_as_they_do_together() -> None:
    prompts = ("x" * 4, "y" * 20)
    asked = [GenerationRequest("r", "v", prompt=prompt, max_tokens=10) for prompt in prompts]
    assert Demand.of_generations(asked).tokens == 1 + 5 + 2 * 10
