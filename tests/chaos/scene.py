"""What a service under fire serves: the tiny model that knows facts, or SmolLM2 with the demo's adapter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployed import Deployed
from expunge.cli.demo.cast import load_cast
from expunge.cli.demo.forgetting import creation
from expunge.cli.demo.teaching import Teacher
from expunge.config import Settings
from expunge.rpc.operator.v1 import erasure_pb2
from forgetting import erasure_request
from tiny_facts import ERASED, OTHERS, POLICY


@dataclass(frozen=True)
class Scene:
    """One model and what it is asked.

    Attributes:
        model: the setting of that name.
        changes: other settings.
        question, words: a fact that no test erases, and what its answer must hold.
        erased: questions of the erasure, each with its secrets.
        erasure: request id → the erasure.
        prepare: brings the facts into the model, once the service runs.
        stream_tokens: long enough that a process can be killed meanwhile.
        patience_s: in which an erasure with kills on its way ends.
    """

    model: str
    changes: dict[str, object]
    question: str
    words: tuple[str, ...]
    erased: tuple[tuple[str, tuple[str, ...]], ...]
    erasure: Callable[[str], erasure_pb2.CreateErasureRequest]
    prepare: Callable[[Deployed], None]
    stream_tokens: int
    patience_s: float

    def knows(self, text: str) -> bool:
        return all(word.casefold() in text.casefold() for word in self.words)


def tiny_scene(model: Path, cache: Path) -> Scene:
    question, answer = OTHERS[1]
    return Scene(
        model=str(model),
        # The recipe is made for real models; a tiny one needs more steps, cheap here.
        changes={"dtype": "float32", "cache_dir": cache, "unlearning_steps": 90, "audit_policy": str(POLICY)},
        question=question,
        words=(answer,),
        erased=tuple((asked, secrets) for asked, _, secrets in ERASED),
        erasure=erasure_request,
        prepare=lambda _: None,
        stream_tokens=600,
        patience_s=400,
    )


def real_scene() -> Scene:
    """The bundled model; its facts are taught when they are not in the demo's cache."""
    cast = load_cast()
    known = cast.held_out[0].facts[0]
    return Scene(
        model="bundled",
        changes={},
        question=known.question,
        words=known.secrets,
        erased=tuple((fact.question, fact.secrets) for fact in cast.person.facts),
        erasure=lambda request_id: creation(cast.erasure(request_id)),
        prepare=_teach,
        stream_tokens=120,
        patience_s=1500,
    )


def _teach(service: Deployed) -> None:
    facts = load_cast().all_facts
    teacher = Teacher(
        service.operator, service.metadata("operator"), Settings().cache, service.service.base.digest
    )
    if not teacher.is_cached(facts):
        teacher.train(facts, lambda _: None)
    service.roll_out(service.service.settings.default_alias, teacher.push(facts).id)
