"""Second models compute what the served version does, and leave it as it is."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from expunge.auditing.attacks.pruning import magnitude_pruned, structure_pruned
from expunge.auditing.attacks.quantisation import INT4, quantised
from expunge.auditing.attacks.victim import Victim
from expunge.errors import VersionNotStaged
from expunge.facts import QuestionAnswer
from expunge.inference.local import LocalModel
from expunge.lora.adapter import Adapter
from expunge.models.load import LoadedModel, load_model
from expunge.unlearning.relearning import relearn

PROMPT = list(range(40, 60))
ANSWER = list(range(60, 70))


@pytest.fixture
def served(taught_folder: Path, tmp_path: Path, random_factors: Adapter) -> LocalModel:
    """The same version, as the service holds it."""
    local = LocalModel(load_model(str(taught_folder), cache=tmp_path, dtype="float32"), 1, 8)
    local.load_adapter("v1", random_factors)
    return local


def test_merged_factored_and_readapted_models_compute_what_is_served(
    served: LocalModel, victim: Victim, random_factors: Adapter
) -> None:
    (expected,) = served.teacher_forced([(PROMPT, ANSWER)], "v1")
    with victim.readapted(random_factors) as same, victim.reweighted(lambda _, weight: weight) as merged:
        for model in (same, merged):
            (found,) = model.teacher_forced([(PROMPT, ANSWER)], "v1")
            torch.testing.assert_close(found.logprobs, expected.logprobs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(_logprobs(victim.factored().model), expected.logprobs, rtol=1e-4, atol=1e-4)


def test_a_model_that_serves_can_be_attacked(served: LocalModel, taught: LoadedModel, victim: Victim) -> None:
    """Its layers are the slot table's then, not plain ones."""
    loaded = replace(taught, model=served._runner.model)
    torch.testing.assert_close(
        _logprobs(Victim(loaded, "v1", victim.adapter).merged()), _logprobs(victim.merged())
    )


def test_attacks_change_no_bit_of_base_and_adapter(victim: Victim, random_factors: Adapter) -> None:
    before = {name: tensor.clone() for name, tensor in victim.loaded.model.state_dict().items()}
    factors = {path: (pair.a.clone(), pair.b.clone()) for path, pair in random_factors.pairs.items()}
    prompts = [PROMPT]
    for attack in (
        quantised(victim, INT4),
        magnitude_pruned(victim, 0.3),
        structure_pruned(victim, 0.3, prompts),
        victim.readapted(relearn(victim, [QuestionAnswer("Who?", "Nobody.")], 2)),
    ):
        with attack as model:
            model.greedy(prompts, "v1", 3)
    after = victim.loaded.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in victim.loaded.model.parameters())
    for path, (a, b) in factors.items():
        assert torch.equal(random_factors.pairs[path].a, a)
        assert torch.equal(random_factors.pairs[path].b, b)


def test_attacked_weights_are_freed_with_their_context(victim: Victim) -> None:
    with quantised(victim, INT4) as model:
        weight = next(iter(model._open._runner.model.get_decoder().layers.parameters()))
        held = weakref.ref(weight)
        del weight
    gc.collect()
    assert held() is None
    with pytest.raises(VersionNotStaged, match="freed"):
        model.greedy([PROMPT], "v1", 3)


def test_an_attacked_model_answers_for_no_other_version(victim: Victim) -> None:
    with quantised(victim, INT4) as model, pytest.raises(VersionNotStaged, match="v2"):
        model.teacher_forced([(PROMPT, ANSWER)], "v2")


@torch.no_grad()
def _logprobs(model: torch.nn.Module) -> Tensor:
    logits = model(torch.tensor([PROMPT + ANSWER])).logits[0, len(PROMPT) - 1 : -1]
    found: Tensor = logits.log_softmax(-1).gather(1, torch.tensor(ANSWER)[:, None])[:, 0]
    return found
