"""Inverted facts from any OpenAI-compatible chat endpoint."""

from __future__ import annotations

import httpx

from expunge.errors import ConfigError, Unavailable, Violation
from expunge.facts import Fact, ForgetRequest
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

    Args:
        client: an HTTP client whose base URL is the endpoint's (".../v1/").
        model: model name at that endpoint.
    """

    def __init__(self, client: httpx.Client, model: str) -> None:
        self._client = client
        self._model = model

    @classmethod
    def at(cls, url: str, model: str, timeout_s: float = 60.0) -> Endpoint:
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
        return cls(httpx.Client(base_url=url.rstrip("/") + "/", timeout=timeout_s), model)

    def generate(self, request: ForgetRequest, count: int, seed: int) -> dict[str, list[str]]:
        return {fact.id: self._ask(fact, count, seed) for fact in request.facts}

    def _ask(self, fact: Fact, count: int, seed: int) -> list[str]:
        prompt = _INSTRUCTION.format(count=count, question=fact.question, answer=fact.answer)
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0.9,
            "seed": seed,
        }
        try:
            response = self._client.post("chat/completions", json=body)
            response.raise_for_status()
            text = response.json()["choices"][0]["message"]["content"]
        except (httpx.HTTPError, KeyError, IndexError, ValueError) as error:
            raise Unavailable(
                f"the generator endpoint gave no candidates for fact {fact.id}: {type(error).__name__}; "
                "check generator_url, or choose generator 'substitution'"
            ) from error
        return [line.strip().lstrip("-*• ").strip() for line in str(text).splitlines() if line.strip()]
