"""Failures outlive a process border, as every domain error does."""

from __future__ import annotations

import pickle

from expunge.client import Overloaded
from expunge.errors import Violation


def test_a_failure_survives_pickling() -> None:
    failure = Overloaded(
        "full",
        status="RESOURCE_EXHAUSTED",
        reason="QUEUE_FULL",
        metadata={"request_id": "r"},
        violations=[Violation("subject", "is full")],
        retry_after_s=1.5,
    )
    copy = pickle.loads(pickle.dumps(failure))
    assert type(copy) is Overloaded
    assert copy.__dict__ == failure.__dict__
    assert str(copy) == "full"
