"""What each kind of job is told and what it answers, and both as dictionaries for the registry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from expunge.errors import InvalidRequest
from expunge.facts import QuestionAnswer
from expunge.registry.records import JobKind


class _Spec:
    """Shared by all specs and results: to a dictionary and back, strictly."""

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            InvalidRequest: a field is missing or unknown.
        """
        known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
        unknown = set(data) - known
        if unknown:
            raise InvalidRequest.of(f"spec.{min(unknown)}", f"is not a field of {cls.__name__}")
        try:
            return cls(**{name: cls._read(name, value) for name, value in data.items()})
        except TypeError as error:
            raise InvalidRequest.of("spec", f"does not fit {cls.__name__}: {error}") from error

    @classmethod
    def _read(cls, name: str, value: Any) -> Any:
        return value


@dataclass(frozen=True)
class FineTuneSpec(_Spec):
    """Teach `examples` through a LoRA adapter.

    Attributes:
        examples: questions and the answers to be given.
        name: name of the new version.
        rank, alpha: of a fresh adapter; ignored where `parent` is an adapter, whose factors are trained on.
        learning_rate: peak rate of AdamW.
        max_steps: at most so many steps.
        target_loss: training ends when an epoch's mean CE is below.
        parent: version to go on from; "" or the base version: a fresh adapter.
        seed: initial factors and order of the examples.
    """

    examples: list[QuestionAnswer]
    name: str
    rank: int = 16
    alpha: float = 32.0
    learning_rate: float = 3e-3
    max_steps: int = 60
    target_loss: float = 0.02
    parent: str = ""
    seed: int = 0

    @classmethod
    def _read(cls, name: str, value: Any) -> Any:
        if name != "examples":
            return value
        return [item if isinstance(item, QuestionAnswer) else QuestionAnswer(**item) for item in value]


@dataclass(frozen=True)
class TrainedResult(_Spec):
    """A new version: id, steps and seconds it took, last losses, and whether the goal was reached.

    Attributes:
        curves: by term of the loss, and for their sum as "loss", the values of all steps.
    """

    version: str
    steps: int
    seconds: float
    losses: dict[str, float]
    converged: bool
    curves: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class InvertSpec(_Spec):
    """Write inverted facts for an erasure.

    Attributes:
        erasure_id: whose facts.
        live_version: what generator "self" samples from.
        count: candidates for each fact; 0: as set.
        seed: varies the candidates from round to round.
        fact_ids: only these facts; empty: all.
    """

    erasure_id: str
    live_version: str = ""
    count: int = 0
    seed: int = 0
    fact_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class InvertResult(_Spec):
    """Fact id → candidates in the generator's order; `dropped` counts what the filter refused."""

    candidates: dict[str, list[str]]
    dropped: int = 0


@dataclass(frozen=True)
class MeasureSpec(_Spec):
    """Measure MEMO of the true answers and of all candidates under the live version, then select.

    Attributes:
        metric: largest, smallest or random MEMO first.
        top_k: inverted facts kept for each fact.
    """

    erasure_id: str
    live_version: str
    candidates: dict[str, list[str]]
    metric: str = "largest"
    top_k: int = 3
    seed: int = 0


@dataclass(frozen=True)
class MeasureResult(_Spec):
    """MEMO per fact, its mean and variation over the true answers, and the selection.

    Attributes:
        memo: fact id → {"true": MEMO of the true answer, "candidates": [MEMO of each candidate]}.
        strength: mean MEMO of the true answers.
        variation: their coefficient of variation; the lower, the more consistent the memory.
        selected: fact id → inverted facts to learn.
    """

    memo: dict[str, dict[str, Any]]
    strength: float
    variation: float
    selected: dict[str, list[str]]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote, also before `variation` had its name. Raises InvalidRequest."""
        renamed = {"variation" if name == "consistency" else name: value for name, value in data.items()}
        return super().from_dict(renamed)


@dataclass(frozen=True)
class UnlearnSpec(_Spec):
    """Train the live version to forget an erasure, without letting earlier ones return.

    Attributes:
        selected: fact id → inverted facts to learn in place of the truth.
        floor_erasures: earlier erasures, replayed so that they stay erased.
        method: name in `methods`.
        round: 1 for the first training; the new version's name carries it.
        steps, learning_rate: 0: the method's own.
    """

    erasure_id: str
    live_version: str
    selected: dict[str, list[str]] = field(default_factory=dict)
    floor_erasures: list[str] = field(default_factory=list)
    method: str = "capped_surprise"
    round: int = 1
    steps: int = 0
    learning_rate: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class AuditSpec(_Spec):
    """Audit a version against erasures.

    Attributes:
        version: what is audited.
        erasure_ids: against which erasures, one after the other.
        live_version: the baseline for what must be kept; "": none.
        thorough: with the probes and attacks that are too slow for the audit before a version goes live.
        reopens: the version is live: an erasure that fails is opened again.
    """

    version: str
    erasure_ids: list[str]
    live_version: str = ""
    thorough: bool = False
    reopens: bool = False


@dataclass(frozen=True)
class AuditResult(_Spec):
    """Erasure id → its report, and whether all passed."""

    reports: dict[str, dict[str, Any]]
    passed: bool
    failed: list[str] = field(default_factory=list)


SPECS: dict[JobKind, type[_Spec]] = {
    JobKind.FINE_TUNE: FineTuneSpec,
    JobKind.INVERT: InvertSpec,
    JobKind.MEASURE: MeasureSpec,
    JobKind.UNLEARN: UnlearnSpec,
    JobKind.AUDIT: AuditSpec,
}


def job_id(erasure_id: str, round_: int, kind: JobKind) -> str:
    """The id of one stage of an erasure: "<erasure id>-r<round>-<stage>"."""
    return f"{erasure_id}-r{round_}-{kind.value}"
