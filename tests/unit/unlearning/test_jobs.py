"""Job specs and results as dictionaries."""

import json

import pytest

from expunge.errors import InvalidRequest
from expunge.facts import QuestionAnswer
from expunge.registry.records import JobKind
from expunge.unlearning.jobs import (
    SPECS,
    AuditResult,
    AuditSpec,
    FineTuneSpec,
    InvertResult,
    InvertSpec,
    MeasureResult,
    MeasureSpec,
    TrainedResult,
    UnlearnSpec,
    job_id,
)

RECORDS = [
    FineTuneSpec([QuestionAnswer("q", "a")], "taught", parent="base:x", seed=3),
    InvertSpec("e1", "v1", 4, 1, ["f1"]),
    InvertResult({"f1": ["no"]}, 2),
    MeasureSpec("e1", "v1", {"f1": ["no"]}),
    MeasureResult({"f1": {"true": 1.0, "candidates": [0.5]}}, 1.0, 0.0, {"f1": ["no"]}),
    UnlearnSpec("e1", "v1", {"f1": ["no"]}, ["e0"], round=2),
    TrainedResult("v2", 12, 3.5, {"loss": 0.1}, True),
    AuditSpec("v2", ["e1"], "v1"),
    AuditResult({"e1": {"passed": True}}, True),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_survives_json(record: InvertSpec) -> None:
    assert type(record).from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_a_measurement_stored_under_the_former_name_of_its_variation_is_read() -> None:
    stored = {"memo": {}, "strength": 0.8, "consistency": 0.2, "selected": {}}
    assert MeasureResult.from_dict(stored).variation == 0.2


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        InvertSpec.from_dict({"erasure_id": "e", "temperature": 1})
    assert caught.value.violations[0].field == "spec.temperature"
    with pytest.raises(InvalidRequest, match="erasure_id"):
        InvertSpec.from_dict({})


def test_every_kind_of_job_has_a_spec_and_stages_have_ids() -> None:
    assert set(SPECS) == set(JobKind)
    assert job_id("e7", 2, JobKind.MEASURE) == "e7-r2-measure"
