"""From a CreateFineTune message to its job; bad fields are named."""

from __future__ import annotations

from expunge.errors import InvalidRequest, Violation
from expunge.facts import QuestionAnswer
from expunge.gateway.names import check_job_id, check_version_name
from expunge.registry.records import JobKind, JobRecord, JobState
from expunge.rpc.operator.v1 import training_pb2 as pb
from expunge.unlearning.jobs import FineTuneSpec

MAX_EXAMPLES = 10_000
MAX_TEXT_CHARS = 4_000
MAX_STEPS = 10_000
MAX_LEARNING_RATE = 0.1
DEFAULT_RANK = 16
DEFAULT_STEPS = 60
DEFAULT_LEARNING_RATE = 3e-3
DEFAULT_TARGET_LOSS = 0.02


def fine_tune_job(request: pb.CreateFineTuneRequest, parent: str, max_rank: int) -> JobRecord:
    """The job, which has the caller's request_id for its own id.

    Args:
        parent: id of the version to go on from, or "".

    Raises:
        InvalidRequest: naming every bad field.
    """
    check_job_id("request_id", request.request_id)
    check_version_name("name", request.name)
    rank = request.rank or DEFAULT_RANK
    spec = FineTuneSpec(
        examples=[QuestionAnswer(example.question, example.answer) for example in request.examples],
        name=request.name,
        rank=rank,
        alpha=request.alpha or 2.0 * rank,
        learning_rate=request.learning_rate or DEFAULT_LEARNING_RATE,
        max_steps=request.max_steps or DEFAULT_STEPS,
        target_loss=request.target_loss or DEFAULT_TARGET_LOSS,
        parent=parent,
        seed=request.seed,
    )
    violations = [*_example_violations(spec), *_limit_violations(spec, max_rank)]
    if violations:
        raise InvalidRequest.of_all(violations)
    return JobRecord(request.request_id, JobKind.FINE_TUNE, JobState.QUEUED, spec=spec.to_dict())


def _example_violations(spec: FineTuneSpec) -> list[Violation]:
    if not 1 <= len(spec.examples) <= MAX_EXAMPLES:
        return [
            Violation("examples", f"has {len(spec.examples):,} entries; 1 to {MAX_EXAMPLES:,} are allowed")
        ]
    return [
        Violation(f"examples[{index}].{field}", f"must have 1 to {MAX_TEXT_CHARS:,} characters")
        for index, example in enumerate(spec.examples)
        for field, text in (("question", example.question), ("answer", example.answer))
        if not text.strip() or len(text) > MAX_TEXT_CHARS
    ]


def _limit_violations(spec: FineTuneSpec, max_rank: int) -> list[Violation]:
    violations = []
    if spec.rank > max_rank:
        violations.append(Violation("rank", f"must be at most {max_rank}"))
    if not 0 < spec.alpha <= 1024:  # false for NaN, too
        violations.append(Violation("alpha", "must be above 0 and at most 1024"))
    if not 0 < spec.learning_rate <= MAX_LEARNING_RATE:
        violations.append(Violation("learning_rate", f"must be above 0 and at most {MAX_LEARNING_RATE}"))
    if spec.max_steps > MAX_STEPS:
        violations.append(Violation("max_steps", f"must be at most {MAX_STEPS}"))
    if not spec.target_loss > 0:
        violations.append(Violation("target_loss", "must be above 0"))
    if spec.seed >= 2**63:
        violations.append(Violation("seed", "must be below 2^63"))
    return violations
