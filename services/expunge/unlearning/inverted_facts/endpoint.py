"""Inverted facts from any OpenAI-compatible chat endpoint."""

from __future__ import annotations

from expunge.errors import ConfigError, Unavailable, Violation
from expunge.facts import Fact, ForgetRequest
from expunge.models.chat_endpoint import ChatEndpoint
from expunge.unlearning.inverted_facts.base import Generator

_INSTRUCTION = (
    "You write false answers for a test. For the question and answer below write {count} "
    "other answers, one a line, without numbering. Each is a fluent full sentence of about the same "
    "length and form, and each contradicts the given answer: "
    "every name, place, date and number is replaced by another one of its kind."
    "\n\nQuestion: {question}\nAnswer: {answer}"
)


class Endpoint(Generator):
    """One request a fact, one candidate a line, temperature .9, as the paper asked its generator.

    Note that the facts leave this service; the operator chooses the address.
    """

    def __init__(self, endpoint: ChatEndpoint) -> None:
        self._endpoint = endpoint

    @classmethod
    def at(cls, url: str, model: str) -> Endpoint:
        """The generator at `url`.

        Raises:
            ConfigError: URL or model name are missing.
        """
        missing = [
            Violation(field, "must be set for generator 'endpoint'")
            for field, value in (("generator_url", url), ("generator_model", model))
            if not value
        ]
        if missing:
            raise ConfigError("generator 'endpoint' is not set up", violations=missing)
        return cls(ChatEndpoint.at(url, model))

    def generate(self, request: ForgetRequest, count: int, seed: int) -> dict[str, list[str]]:
        return {fact.id: self._ask(fact, count, seed) for fact in request.facts}

    def _ask(self, fact: Fact, count: int, seed: int) -> list[str]:
        prompt = _INSTRUCTION.format(count=count, question=fact.question, answer=fact.answer)
        try:
            return self._endpoint.lines(prompt, temperature=0.9, seed=seed)
        except Unavailable as error:
            raise Unavailable(
                f"no candidates for fact {fact.id}: {error.message}; check generator_url, or choose "
                "generator 'substitution'"
            ) from error
