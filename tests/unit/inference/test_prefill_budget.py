"""How many prompt tokens a step takes on."""

from __future__ import annotations

from expunge.inference.prefill_budget import LEAST_TOKENS, PrefillBudget

QUIET_S, TOKEN_S = 0.060, 0.001


def learnt(stretch: float = 1.8) -> PrefillBudget:
    budget = PrefillBudget(512, stretch)
    budget.observe(8, 0, QUIET_S)
    budget.observe(8, 40, QUIET_S + 40 * TOKEN_S)
    return budget


def test_an_idle_engine_takes_all_it_may() -> None:
    assert PrefillBudget(512, 1.8).tokens(0) == 512


def test_before_anything_is_known_a_step_takes_little() -> None:
    assert PrefillBudget(512, 1.8).tokens(8) == LEAST_TOKENS


def test_a_step_with_prompts_takes_no_longer_than_it_may() -> None:
    tokens = learnt().tokens(8, prompts=1)
    assert tokens >= LEAST_TOKENS
    assert QUIET_S + tokens * TOKEN_S <= 1.8 * QUIET_S


def test_where_many_prompts_wait_they_get_their_share_of_the_time() -> None:
    budget = learnt()
    assert budget.tokens(8, prompts=2) == budget.tokens(8)
    tokens = budget.tokens(8, prompts=24)
    assert tokens * TOKEN_S >= 0.9 * 3 * QUIET_S


def test_a_machine_that_slows_down_takes_on_less() -> None:
    budget = learnt(stretch=3.0)
    before = budget.tokens(8)
    for _ in range(20):
        budget.observe(8, 40, QUIET_S + 40 * 3 * TOKEN_S)
    assert budget.tokens(8) < before


def test_rows_of_another_number_go_by_the_nearest() -> None:
    assert learnt().tokens(9) == learnt().tokens(8)
    assert learnt().tokens(2) == learnt().tokens(8)


def test_no_step_takes_more_than_an_idle_one() -> None:
    budget = PrefillBudget(4, 1.8)
    assert budget.tokens(0) == budget.tokens(3) == 4
