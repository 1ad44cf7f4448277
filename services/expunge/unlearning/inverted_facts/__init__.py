"""Inverted facts: generators by name, and the filter every candidate must pass."""

from __future__ import annotations

from expunge.errors import InvalidRequest
from expunge.unlearning.inverted_facts.base import Generator
from expunge.unlearning.inverted_facts.endpoint import Endpoint
from expunge.unlearning.inverted_facts.filter import Filtered, filter_candidates, refusal
from expunge.unlearning.inverted_facts.self_generated import Sample, SelfGenerated
from expunge.unlearning.inverted_facts.substitution import Substitution

GENERATORS = ("substitution", "self", "endpoint")

__all__ = [
    "GENERATORS",
    "Endpoint",
    "Filtered",
    "Generator",
    "SelfGenerated",
    "Substitution",
    "create_generator",
    "filter_candidates",
    "refusal",
]


def create_generator(name: str, *, sample: Sample | None = None, url: str = "", model: str = "") -> Generator:
    """The generator called `name`.

    Args:
        name: substitution, self or endpoint.
        sample: answers of the live version, for "self".
        url, model: an OpenAI-compatible endpoint, for "endpoint".

    Raises:
        InvalidRequest: no generator of that name, or "self" without a model to ask.
        ConfigError: "endpoint" without URL or model name.
    """
    match name:
        case "substitution":
            return Substitution()
        case "self" if sample is not None:
            return SelfGenerated(sample)
        case "endpoint":
            return Endpoint.at(url, model)
    raise InvalidRequest.of("generator", f"{name!r} can't be used; choose one of {', '.join(GENERATORS)}")
