"""`expunge generate` and `expunge chat`: what a client of the service does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.markup import escape

from expunge.cli.messages import enum_word, short
from expunge.cli.session import Session, command
from expunge.errors import InvalidRequest
from expunge.inference.request import Priority
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

command_app = typer.Typer()

Alias = Annotated[str, typer.Option(help="Model name to call; empty: the service's default alias.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Most tokens to generate.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0: greedy.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Nucleus sampling.")]
TopK = Annotated[int, typer.Option(min=0, help="Most likely tokens to choose among; 0: all.")]
MinP = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Least share of the likeliest token's probability.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Makes sampling repeatable.")]
RepetitionPenalty = Annotated[float, typer.Option(help="Against tokens of prompt and answer; 1: none.")]
PresencePenalty = Annotated[float, typer.Option(help="Against tokens of the answer.")]
FrequencyPenalty = Annotated[float, typer.Option(help="Against tokens of the answer, by their number.")]
LogitBias = Annotated[
    list[str] | None, typer.Option(metavar="ID=BIAS", help="For one token id; may be repeated.")
]
Stop = Annotated[list[str] | None, typer.Option(help="Text that ends the answer; may be repeated.")]
Raw = Annotated[bool, typer.Option("--raw", help="Continue the text as it is, without the chat template.")]
Logprobs = Annotated[
    int | None, typer.Option(min=0, max=20, help="Likeliest tokens to tell beside each; needs --json.")
]


@dataclass
class Answer:
    """Streamed answers to one prompt, put together."""

    texts: list[str]
    versions: set[str] = field(default_factory=set)
    last: dict[int, pb.GenerateStreamResponse] = field(default_factory=dict)  # by answer
    logprobs: dict[int, list[dict[str, object]]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.texts[0]

    def add(self, chunk: pb.GenerateStreamResponse) -> None:
        self.texts[chunk.index] += chunk.text
        self.versions.add(chunk.version)
        self.last[chunk.index] = chunk
        self.logprobs.setdefault(chunk.index, []).extend(_token(token) for token in chunk.logprobs)

    def to_json(self) -> dict[str, object]:
        first = self.last[0]
        return {
            "text": self.text,
            "version": first.version,
            "generation": first.generation,
            "alias": first.alias,
            "finish_reason": _reason(first),
            "prompt_tokens": first.usage.prompt_tokens,
            "completion_tokens": sum(last.usage.completion_tokens for last in self.last.values()),
            "request_id": first.request_id,
            **({"logprobs": self.logprobs[0]} if self.logprobs[0] else {}),
            **self._more(),
        }

    def _more(self) -> dict[str, object]:
        more = [
            {"text": self.texts[index], "finish_reason": _reason(last), "logprobs": self.logprobs[index]}
            for index, last in sorted(self.last.items())
            if index
        ]
        return {"more_choices": more} if more else {}


def stream(session: Session, request: pb.GenerateStreamRequest) -> Answer:
    """Asks, showing the text as it arrives; several answers are shown one after the other, once complete.

    Raises:
        grpc.RpcError: the service refused or failed.
    """
    answer = Answer([""] * max(1, request.n))
    with session.inference_channel() as channel:
        chunks = InferenceServiceStub(channel).GenerateStream(
            request, metadata=session.metadata("client"), timeout=session.timeout_s
        )
        for chunk in chunks:
            answer.add(chunk)
            if not session.out.as_json and len(answer.texts) == 1:
                session.out.console.print(chunk.text, end="", markup=False)
    if not session.out.as_json and len(answer.texts) > 1:
        for number, text in enumerate(answer.texts, 1):
            session.out.console.print(f"{number}: {text}", markup=False)
    session.out.say("")
    return answer


def _token(token: pb.TokenLogprob) -> dict[str, object]:
    likeliest = [{"text": one.text, "logprob": one.logprob} for one in token.likeliest]
    return {"token_id": token.token_id, "text": token.text, "logprob": token.logprob, "likeliest": likeliest}


def _reason(chunk: pb.GenerateStreamResponse) -> str:
    return enum_word(pb.FinishReason.DESCRIPTOR, chunk.finish_reason)


@command(command_app, "generate")
def generate(
    session: Session,
    prompt: Annotated[str, typer.Argument(help="The question, or with --raw the text to go on with.")],
    alias: Alias = "",
    raw: Raw = False,
    max_tokens: MaxTokens = 128,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    min_p: MinP = 0.0,
    seed: Seed = None,
    repetition_penalty: RepetitionPenalty = 1.0,
    presence_penalty: PresencePenalty = 0.0,
    frequency_penalty: FrequencyPenalty = 0.0,
    logit_bias: LogitBias = None,
    stop: Stop = None,
    n: Annotated[int, typer.Option("-n", min=1, max=8, help="Answers to generate.")] = 1,
    logprobs: Logprobs = None,
    priority: Annotated[Priority, typer.Option(help="Who goes first.")] = Priority.INTERACTIVE,
) -> None:
    """Ask the served model and stream its answer."""
    request = pb.GenerateStreamRequest(
        alias=alias,
        max_tokens=max_tokens,
        stop=stop or (),
        sampling=pb.Sampling(
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            min_p=min_p,
            repetition_penalty=repetition_penalty,
            presence_penalty=presence_penalty,
            frequency_penalty=frequency_penalty,
            logit_bias=dict(map(_bias, logit_bias or ())),
        ),
        n=n,
        logprobs=logprobs,
        priority=pb.Priority.Value(f"PRIORITY_{priority.name}"),
    )
    if raw:
        request.prompt = prompt
    else:
        request.messages.add(role="user", content=prompt)
    answer = stream(session, request)
    session.out.document(answer.to_json())
    session.out.say(_origin(answer))


def _bias(entry: str) -> tuple[int, float]:
    token, _, bias = entry.partition("=")
    try:
        if 0 <= int(token) < 2**32:
            return int(token), float(bias)
    except ValueError:
        pass
    raise InvalidRequest.of("logit_bias", f"{entry!r} does not read ID=BIAS, as 42=-100 does")


@command(command_app, "chat")
def chat(
    session: Session,
    alias: Alias = "",
    system: Annotated[str, typer.Option(help="System message.")] = "",
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 0.0,
) -> None:
    """Talk to the served model; an empty line or Ctrl-D ends it."""
    messages = [pb.Message(role="system", content=system)] if system else []
    while question := _ask(session):
        messages.append(pb.Message(role="user", content=question))
        answer = stream(session, _turn(alias, messages, max_tokens, temperature))
        messages.append(pb.Message(role="assistant", content=answer.text))
        session.out.line(answer.to_json())
        session.out.say(_origin(answer))


def _ask(session: Session) -> str:
    try:
        return session.out.console.input("" if session.out.as_json else "[bold cyan]you ›[/] ").strip()
    except EOFError:
        return ""


def _turn(
    alias: str, messages: Sequence[pb.Message], max_tokens: int, temperature: float
) -> pb.GenerateStreamRequest:
    return pb.GenerateStreamRequest(
        alias=alias, messages=messages, max_tokens=max_tokens, sampling=pb.Sampling(temperature=temperature)
    )


def _origin(answer: Answer) -> str:
    first = answer.last[0]
    tokens = sum(last.usage.completion_tokens for last in answer.last.values())
    return (
        f"[dim]{escape(first.alias)} · version {escape(short(first.version))} · "
        f"generation {first.generation} · {tokens} tokens · {_reason(first)}[/]"
    )
