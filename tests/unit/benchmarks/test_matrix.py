"""Cells, their plans, and prompts of exact lengths."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.benchmarks.serving.matrix import ADAPTERS, BASE, FULL, QUICK, Cell, Matrix, plan_of
from expunge.benchmarks.serving.plan import Plan, Target, TargetKind
from expunge.benchmarks.serving.prompts import PromptWriter, end_tokens
from expunge.errors import ModelError


def test_the_full_matrix_is_every_combination_and_an_open_loop_of_each_kind() -> None:
    cells = FULL.cells()
    assert len([cell for cell in cells if not cell.is_open]) == 27
    assert len([cell for cell in cells if cell.is_open]) == 9
    assert len(set(cells)) == len(cells)
    assert set(QUICK.cells()) <= set(cells)


def test_an_open_loop_follows_the_closed_ones_that_tell_its_rate() -> None:
    cells = Matrix(streams=(1, 8), prompts=(32,), adapters=(0, 4)).cells()
    assert [(cell.streams, cell.adapters) for cell in cells] == [
        (1, 0),
        (8, 0),
        (0, 0),
        (1, 4),
        (8, 4),
        (0, 4),
    ]


def test_adapters_are_asked_in_turns() -> None:
    plan = plan_of(Cell(8, 32, 4), ["p"] * 8, 64, rate=0.0, seed=0, timeout_s=1.0)
    assert [ask.model for ask in plan.asks] == [*ADAPTERS, *ADAPTERS]
    assert plan.streams == 8
    assert Cell(8, 32, 0).models == (BASE,)


def test_open_arrivals_are_poisson_with_the_seed_and_the_rate() -> None:
    plan = plan_of(Cell(0, 32, 0), ["p"] * 4000, 64, rate=5.0, seed=3, timeout_s=1.0)
    again = plan_of(Cell(0, 32, 0), ["p"] * 4000, 64, rate=5.0, seed=3, timeout_s=1.0)
    assert plan == again
    assert plan.streams == 0
    mean = sum(plan.gaps_s) / len(plan.gaps_s)
    variance = sum((gap - mean) ** 2 for gap in plan.gaps_s) / len(plan.gaps_s)
    assert mean == pytest.approx(0.2, rel=0.1)
    assert variance == pytest.approx(0.04, rel=0.2), "of an exponential distribution: the mean squared"


def test_plans_and_targets_survive_their_lines() -> None:
    plan = plan_of(Cell(0, 32, 1), ["p", 'q "\n'], 64, rate=5.0, seed=3, timeout_s=1.0)
    assert Plan.from_line(plan.to_line()) == plan
    target = Target(TargetKind.ENGINE, end_tokens=(2, 3), settings={"model": "m"}, adapters={"a": ""})
    assert Target.from_line(target.to_line()) == target
    assert "\n" not in plan.to_line()


@pytest.mark.parametrize("tokens", [1, 32, 128, 512])
def test_a_prompt_has_exactly_the_tokens_that_were_asked_for(tiny_model_folder: Path, tokens: int) -> None:
    from transformers import AutoTokenizer

    prompt = PromptWriter(tiny_model_folder, seed=1).write(tokens)
    assert len(AutoTokenizer.from_pretrained(tiny_model_folder)(prompt)["input_ids"]) == tokens


def test_prompts_differ_from_each_other_and_repeat_with_the_seed(tiny_model_folder: Path) -> None:
    first, again = PromptWriter(tiny_model_folder, seed=1), PromptWriter(tiny_model_folder, seed=1)
    prompts = [first.write(32) for _ in range(8)]
    assert len(set(prompts)) == 8
    assert [again.write(32) for _ in range(8)] == prompts


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=str(tmp_path)):
        PromptWriter(tmp_path, seed=0)


def test_the_end_tokens_are_those_of_both_configs(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"eos_token_id": 2}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 2]}')
    assert end_tokens(tmp_path) == (2, 7)
