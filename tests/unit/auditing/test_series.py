"""What figures are drawn from, made of what an audit measured anyway."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from expunge.auditing.intervals import Share
from expunge.auditing.measured_series import MOST_ANSWERS, answer_series, prefix_shares
from expunge.auditing.metrics.scored import AnswerScores
from expunge.auditing.policy import DEFAULT_POLICY
from expunge.auditing.probes import ProbeKind, probed_facts
from expunge.auditing.series import Series
from expunge.facts import Fact
from report_case import series


def test_series_survive_json() -> None:
    assert Series.from_dict(json.loads(json.dumps(series().to_dict()))) == series()


def test_prefix_leaks_are_counted_by_the_part_of_the_answer_given() -> None:
    fact = Fact("f", "Where was she born?", "Mira Voss was born in Port Ellery.", ("Port Ellery",))
    (probed,) = probed_facts((fact,), (), DEFAULT_POLICY, {ProbeKind.PREFIX}, ())
    replies = [probed.judge(probe, "Port Ellery.") for probe in probed.probes if probe.prefix]
    shares = prefix_shares([probed], replies)
    assert sum(share.n for share in shares) == len(replies) > 0
    assert sum(share.hits for share in shares) == sum(reply.leak.full for reply in replies) > 0
    first = math.ceil(10 * len(replies[0].probe.prefix) / len(fact.answer)) - 1
    assert shares[first].n >= 1
    assert all(share == Share(0, 0) for share in shares[:first])


def test_an_answer_has_its_strength_and_scores() -> None:
    scored = AnswerScores("a b", np.log([0.5, 0.25, 0.125]), np.array([False, True]))
    found = answer_series([scored])
    assert found.es == (0.5,)
    assert found.probability == pytest.approx((0.25,), rel=1e-3)
    assert found.min_k == pytest.approx((math.log(0.125),), rel=1e-3)


def test_long_series_are_thinned_evenly() -> None:
    answers = [AnswerScores("a", np.log([p, p]), np.array([True])) for p in np.linspace(0.1, 0.9, 1000)]
    found = answer_series(answers)
    assert len(found.es) <= MOST_ANSWERS
    assert found.probability[-1] > 0.89
