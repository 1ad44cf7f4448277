"""What a caller asks for, and the message that says it to the service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict, TypeVar

from expunge.rpc.inference.v1 import inference_pb2 as pb

_Generate = TypeVar("_Generate", pb.GenerateRequest, pb.GenerateStreamRequest)


class Priority(StrEnum):
    """Who goes first where not everybody can."""

    INTERACTIVE = "interactive"
    BATCH = "batch"  # waits behind interactive requests, and gives way to them


_PRIORITIES = {
    Priority.INTERACTIVE: pb.PRIORITY_INTERACTIVE,
    Priority.BATCH: pb.PRIORITY_BATCH,
}


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; role is system, user or assistant."""

    role: str
    content: str


def system(content: str) -> Message:
    """The turn that sets the scene."""
    return Message("system", content)


def user(content: str) -> Message:
    """A turn of the person."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """A turn of the model."""
    return Message("assistant", content)


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; the default is greedy. The protos tell what each field may be.

    None, and 0 for `temperature`, `top_k`, `min_p` and the penalties, leave it to the service's default.
    `logit_bias` maps token ids to what is added to their logits.
    """

    temperature: float = 0.0
    top_p: float | None = None
    top_k: int = 0
    seed: int | None = None
    min_p: float = 0.0
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def to_message(self) -> pb.Sampling:
        return pb.Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=self.seed,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=self.logit_bias,
        )


class Request(TypedDict, total=False):
    """What `generate` and `stream` take, by keyword. Exactly one of the first three is given.

    Attributes:
        prompt: raw text that the model continues.
        messages: a conversation, put through the model's chat template.
        prompt_tokens: the raw prompt as token ids.
        alias: the model to call; "" (the default): the service's own default.
        max_tokens: most tokens to generate; the service's default is 128.
        stop: texts that end the answer and are no part of it.
        sampling: how tokens are chosen.
        continue_final_message: the last message is the beginning of the answer.
        n: answers to generate.
        logprobs: tell the log-probability of each token, and of so many likeliest ones beside it.
        prompt_logprobs: tell those of the prompt's tokens, too; needs `logprobs`.
        priority: who goes first where not everybody can.
    """

    prompt: str
    messages: Sequence[Message]
    prompt_tokens: Sequence[int]
    alias: str
    max_tokens: int
    stop: Sequence[str]
    sampling: Sampling
    continue_final_message: bool
    n: int
    logprobs: int
    prompt_logprobs: bool
    priority: Priority


def generate_message(kind: type[_Generate], request: Request) -> _Generate:
    """The message of type `kind` for a request; fields that were not given stay unset."""
    sampling = request.get("sampling")
    priority = request.get("priority")
    return kind(
        alias=request.get("alias", ""),
        prompt=request.get("prompt", ""),
        messages=[pb.Message(role=turn.role, content=turn.content) for turn in request.get("messages") or ()],
        prompt_tokens=request.get("prompt_tokens") or (),
        max_tokens=request.get("max_tokens"),
        stop=request.get("stop") or (),
        sampling=None if sampling is None else sampling.to_message(),
        continue_final_message=request.get("continue_final_message", False),
        n=request.get("n", 0),
        logprobs=request.get("logprobs"),
        prompt_logprobs=request.get("prompt_logprobs", False),
        priority=priority_value(priority),
    )


def priority_value(priority: Priority | None) -> pb.Priority.ValueType:
    """The number that stands for a priority in a message."""
    return pb.PRIORITY_UNSPECIFIED if priority is None else _PRIORITIES[priority]
