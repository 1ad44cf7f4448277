"""The parameters that completions and chat completions share, as OpenAI's API names them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.errors import InvalidRequest, Violation
from expunge.gateway.answering import Asked
from expunge.gateway.call import Call
from expunge.gateway.routing import Route
from expunge.inference.request import Priority, Sampling

# What changes nothing of an answer, whatever its value.
_HARMLESS = frozenset(
    {
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    }
)
# What changes nothing where it has one of these values. Null counts as not sent, everywhere.
_INERT: Mapping[str, tuple[object, ...]] = {
    "best_of": (1,),
    "function_call": ("auto", "none"),
    "functions": ([],),
    "modalities": (["text"],),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "tool_choice": ("auto", "none"),
    "tools": ([],),
}


class StreamOptions(BaseModel):
    """How a stream ends: with `include_usage`, by a chunk that counts the call's tokens."""

    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    include_obfuscation: bool = False  # nothing is padded here, as nothing is encrypted


class Parameters(BaseModel, ABC):
    """A request's body. Numbers may be out of bounds: `generation_bounds` names those together."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = ""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    # beyond OpenAI's, named as elsewhere
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    priority: Literal["interactive", "batch"] = Field("interactive")

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """The parameters in a JSON body; null is the same as not sent.

        Raises:
            InvalidRequest: naming every parameter that is of the wrong type, or that would change the answer
                if it were honoured, and is not.
        """
        given = {name: value for name, value in body.items() if value is not None}
        try:
            parameters = cls.model_validate(given)
        except ValidationError as error:
            raise InvalidRequest.of_all(_violations(error)) from None
        unknown = [
            Violation(name, "is not supported here and would change the answer; leave it out")
            for name, value in (parameters.model_extra or {}).items()
            if name not in _HARMLESS and value not in _INERT.get(name, ())
        ]
        if parameters.stream_options and not parameters.stream:
            unknown.append(Violation("stream_options", "needs stream to be true"))
        if unknown:
            raise InvalidRequest.of_all(unknown)
        return parameters

    @abstractmethod
    def names(self) -> Mapping[str, str]:
        """How this API calls fields that the gRPC messages call otherwise."""

    @abstractmethod
    def asked(self, call: Call, route: Route, deadline: float | None, max_context: int) -> list[Asked]:
        """What the engine is to be asked, in the order of the prompts.

        Args:
            deadline: seconds since the epoch, or None.
            max_context: prompt plus output tokens the service allows.

        Raises:
            InvalidRequest: naming every bad parameter.
        """

    @property
    def includes_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def stops(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def urgency(self) -> Priority:
        return Priority(self.priority)

    def sampling(self) -> Sampling:
        """How tokens are chosen; as in OpenAI's API, temperature 1 where nothing is said.

        Raises:
            InvalidRequest: a key of `logit_bias` is no token id.
        """
        top_k = self.top_k or 0
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=0 if top_k == -1 else top_k,  # elsewhere, -1 is how no limit is written
            seed=None if self.seed is None else self.seed % 2**64,
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            logit_bias=tuple(sorted(_bias(token, bias) for token, bias in (self.logit_bias or {}).items())),
        )


def _bias(token: str, bias: float) -> tuple[int, float]:
    if not (token.isascii() and token.isdecimal() and len(token) <= 10):
        raise InvalidRequest.of(f"logit_bias[{token[:32]}]", "must be named by a token id")
    return int(token), bias


def _violations(error: ValidationError) -> list[Violation]:
    """One for each parameter: of a union, what came furthest with one of its members."""
    found: dict[str, tuple[int, Violation]] = {}
    for problem in error.errors(include_url=False, include_input=False):
        name, *path = problem["loc"]
        depth, _ = found.get(str(name), (-1, None))
        if len(path) > depth:
            where = "".join(_place(part) for part in path)
            found[str(name)] = len(path), Violation(f"{name}{where}", problem["msg"])
    return [violation for _, violation in found.values()]


def _place(part: int | str) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    is_field = part.isidentifier() and part != "str"  # others are names of a union's members
    return f".{part}" if is_field else ""


@contextmanager
def named_as_sent(parameters: Parameters) -> Iterator[None]:
    """Errors from here name fields as this API does, wherever they were found.

    Raises:
        InvalidRequest: the one that was raised, with other names.
    """
    try:
        yield
    except InvalidRequest as error:
        names, violations = parameters.names(), []
        for violation in error.violations:
            head, bracket, rest = violation.field.removeprefix("sampling.").partition("[")
            violations.append(Violation(f"{names.get(head, head)}{bracket}{rest}", violation.message))
        if not violations:
            raise
        raise InvalidRequest.of_all(violations) from None
