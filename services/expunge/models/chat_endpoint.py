"""Any OpenAI-compatible chat endpoint, asked one question at a time for a list of lines."""

from __future__ import annotations

import httpx

from expunge.errors import Unavailable


class ChatEndpoint:
    """Writes texts for this service. What it is asked leaves the service; the operator chooses the address.

    Args:
        client: an HTTP client whose base URL is the endpoint's (".../v1/").
        model: model name at that endpoint.
    """

    def __init__(self, client: httpx.Client, model: str) -> None:
        self._client = client
        self._model = model

    @classmethod
    def at(cls, url: str, model: str, timeout_s: float = 60.0) -> ChatEndpoint:
        """The endpoint at `url`."""
        return cls(httpx.Client(base_url=url.rstrip("/") + "/", timeout=timeout_s), model)

    def lines(self, prompt: str, *, temperature: float, seed: int) -> list[str]:
        """The lines of one reply, without bullets and empty ones.

        Raises:
            Unavailable: no reply, or none of the usual form.
        """
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": temperature,
            "seed": seed,
        }
        try:
            response = self._client.post("chat/completions", json=body)
            response.raise_for_status()
            text = response.json()["choices"][0]["message"]["content"]
        except (httpx.HTTPError, KeyError, IndexError, TypeError, ValueError) as error:
            raise Unavailable(
                f"the endpoint of model {self._model} gave no answer: {type(error).__name__}"
            ) from error
        return [line.strip().lstrip("-*• ").strip() for line in str(text).splitlines() if line.strip()]
