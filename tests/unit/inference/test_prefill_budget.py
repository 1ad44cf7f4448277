"""How many prompt tokens a step takes on."""

from __future__ import annotations

from expunge.inference.prefill_budget import LEAST_TOKENS, LOOK_AGAIN, PrefillBudget, shares

QUIET_S, TOKEN_S = 0.060, 0.001


def learnt(stretch: float = 1.8) -> PrefillBudget:
    budget = PrefillBudget(512, stretch)
    budget.observe(8, 0, QUIET_S)
    budget.observe(8, 40, QUIET_S + 40 * TOKEN_S)
    return budget


def test_an_idle_engine_takes_all_it_may() -> None:
    assert PrefillBudget(512, 1.8).tokens(0) == 512


def test_what_a_step_costs_without_prompts_is_looked_at_first() -> None:
    budget = PrefillBudget(512, 1.8)
    assert budget.tokens(8) == 0
    budget.observe(8, 0, QUIET_S)
    assert budget.tokens(8) == LEAST_TOKENS


def test_it_is_looked_at_again_though_prompts_wait_all_the_time() -> None:
    budget = learnt()
    for _ in range(LOOK_AGAIN):
        taken = budget.tokens(8, prompts=24)
        assert taken > 0
        budget.observe(8, taken, QUIET_S + taken * TOKEN_S)
    assert budget.tokens(8, prompts=24) == 0


def test_a_burst_of_prompts_does_not_look_dearer_the_more_rows_decode() -> None:
    budget = PrefillBudget(512, 1.5)

    def seconds(rows: int, tokens: int) -> float:
        return 0.030 + 0.002 * rows + TOKEN_S * tokens

    for rows in (1, 2, 4, 8, 12, 16, 20, 24, 28):
        for _ in range(10):
            taken = budget.tokens(rows, prompts=32 - rows)
            budget.observe(rows, taken, seconds(rows, taken))
    stretch = 1.5 * seconds(28, 0)
    assert 0.7 * stretch <= seconds(28, budget.tokens(28, prompts=4)) <= 1.1 * stretch


def test_a_step_with_prompts_takes_no_longer_than_it_may() -> None:
    tokens = learnt().tokens(8, prompts=1)
    assert tokens >= LEAST_TOKENS
    assert QUIET_S + tokens * TOKEN_S <= 1.8 * QUIET_S


def test_where_many_prompts_wait_they_get_their_share_of_the_time() -> None:
    budget = learnt()
    assert budget.tokens(8, prompts=2) == budget.tokens(8)
    found = []
    for _ in range(4):
        found.append(budget.tokens(8, prompts=24))
        budget.observe(8, found[-1], QUIET_S + found[-1] * TOKEN_S)
    assert found[0] < found[1] <= 2 * found[0]  # not all at once, by what a few tokens told
    assert found[-1] * TOKEN_S >= 0.9 * 3 * QUIET_S


def test_a_machine_that_slows_down_takes_on_less() -> None:
    budget = learnt(stretch=3.0)
    before = budget.tokens(8)
    for _ in range(20):
        budget.observe(8, 40, QUIET_S + 40 * 3 * TOKEN_S)
    assert budget.tokens(8) < before


def test_steps_that_take_now_longer_now_shorter_change_little() -> None:
    budget = learnt(stretch=1.5)
    steady = budget.tokens(8)
    for noise_s in (0.02, -0.02) * 30:
        taken = budget.tokens(8) or 0
        budget.observe(8, taken, max(0.0, QUIET_S + taken * TOKEN_S + (noise_s if taken else 0.0)))
    found = budget.tokens(8) or budget.tokens(9)
    assert 0.5 * steady <= found <= 2 * steady


def test_rows_of_nearly_the_same_number_go_by_each_other() -> None:
    assert learnt().tokens(9) == learnt().tokens(8)


def test_no_step_takes_more_than_an_idle_one() -> None:
    budget = PrefillBudget(4, 1.8)
    budget.observe(3, 0, QUIET_S)
    assert budget.tokens(0) == budget.tokens(3) == 4


def test_the_shortest_prompts_are_through_first_and_the_oldest_comes_on() -> None:
    assert shares([2000, 0, 30, 20, 25], 100) == [50, 0, 5, 20, 25]


def test_what_the_others_do_not_need_is_for_the_oldest() -> None:
    assert shares([2000, 10], 100) == [90, 10]
    assert shares([2000], 100) == [100]


def test_a_short_oldest_leaves_the_rest_to_the_others() -> None:
    assert shares([10, 300, 40], 100) == [10, 50, 40]


def test_no_prompts_no_shares() -> None:
    assert shares([0, 0], 64) == [0, 0]
    assert shares([], 64) == []
    assert shares([5], 0) == [0]
