"""Half of the facts taught again brings the other half back where it was only hidden."""

from __future__ import annotations

from functools import partial

import pytest

from expunge.auditing.attacks.relearning import halves, relearned
from expunge.auditing.attacks.victim import Victim
from expunge.auditing.probes import ProbedFact
from expunge.errors import InvalidRequest
from expunge.facts import Fact
from expunge.models.load import LoadedModel
from expunge.unlearning.relearning import relearn

from ..known_facts import FACTS
from .planted import REFUSAL, refusing

TAUGHT, ASKED = FACTS
RELEARN = partial(relearn, rate=1e-2)


def _told(victim: Victim, steps: int) -> tuple[str, set[str]]:
    """The reply to the fact that nobody taught, and the secret words in it."""
    asked = ProbedFact(ASKED)
    with relearned(victim, RELEARN, [TAUGHT], steps) as model:
        (ids,) = model.greedy([model.chat_ids(ASKED.question)], victim.version, 30)
        reply = model.decode(ids)
    return reply, set(asked.judge(asked.probes[0], reply).leak.words)


def test_relearning_brings_a_shallowly_hidden_fact_back(taught: LoadedModel) -> None:
    victim = Victim(taught, "hidden", refusing(taught, FACTS))
    assert _told(victim, 0) == (REFUSAL, set())
    assert {"clocks", "larkfield"} <= _told(victim, 12)[1]


def test_relearning_brings_nothing_back_that_was_never_there(innocent: LoadedModel) -> None:
    victim = Victim(innocent, "never", refusing(innocent, FACTS))
    assert _told(victim, 12)[1] == set()


def test_the_base_version_is_relearned_on_fresh_factors(innocent: LoadedModel) -> None:
    victim = Victim(innocent, innocent.version)
    with relearned(victim, RELEARN, [TAUGHT], 40) as model:
        (ids,) = model.greedy([model.chat_ids(TAUGHT.question)], victim.version, 30)
        assert "Port Ellery" in model.decode(ids)


def test_halves_part_the_facts_and_depend_on_the_seed_alone() -> None:
    facts = [Fact(f"f{index}", "q", "a") for index in range(7)]
    taught, asked = halves(facts, 1)
    assert (len(taught), len(asked)) == (4, 3)
    assert {*taught, *asked} == set(facts)
    assert halves(facts, 1) == (taught, asked)
    assert any(halves(facts, seed) != (taught, asked) for seed in range(2, 6))


def test_a_single_fact_has_no_other_half() -> None:
    with pytest.raises(InvalidRequest, match="two facts"):
        halves(FACTS[:1], 0)
