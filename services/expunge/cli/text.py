"""`expunge generate` and `expunge chat`: what a client of the service does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.markup import escape

from expunge.cli.messages import enum_word, short
from expunge.cli.session import Session, command
from expunge.rpc.inference.v1 import inference_pb2 as pb
from expunge.rpc.inference.v1.inference_pb2_grpc import InferenceServiceStub

command_app = typer.Typer()

Alias = Annotated[str, typer.Option(help="Model name to call; empty: the service's default alias.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Most tokens to generate.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0: greedy.")]


@dataclass
class Answer:
    """A streamed answer, put together."""

    text: str = ""
    versions: set[str] = field(default_factory=set)
    last: pb.GenerateStreamResponse = field(default_factory=pb.GenerateStreamResponse)

    def to_json(self) -> dict[str, object]:
        return {
            "text": self.text,
            "version": self.last.version,
            "generation": self.last.generation,
            "alias": self.last.alias,
            "finish_reason": enum_word(pb.FinishReason.DESCRIPTOR, self.last.finish_reason),
            "prompt_tokens": self.last.usage.prompt_tokens,
            "completion_tokens": self.last.usage.completion_tokens,
            "request_id": self.last.request_id,
        }


def stream(session: Session, request: pb.GenerateStreamRequest) -> Answer:
    """Asks, showing the text as it arrives.

    Raises:
        grpc.RpcError: the service refused or failed.
    """
    answer = Answer()
    with session.inference_channel() as channel:
        chunks = InferenceServiceStub(channel).GenerateStream(
            request, metadata=session.metadata("client"), timeout=session.timeout_s
        )
        for chunk in chunks:
            answer.text += chunk.text
            answer.versions.add(chunk.version)
            answer.last = chunk
            if not session.out.as_json:
                session.out.console.print(chunk.text, end="", markup=False)
    session.out.say("")
    return answer


@command(command_app, "generate")
def generate(
    session: Session,
    prompt: Annotated[str, typer.Argument(help="The question, or with --raw the text to go on with.")],
    alias: Alias = "",
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it is, without the chat template.")
    ] = False,
    max_tokens: MaxTokens = 128,
    temperature: Temperature = 0.0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0, help="Nucleus sampling.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Most likely tokens to choose among; 0: all.")] = 0,
    seed: Annotated[int | None, typer.Option(min=0, help="Makes sampling repeatable.")] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text that ends the answer; may be repeated.")
    ] = None,
) -> None:
    """Ask the served model and stream its answer."""
    request = pb.GenerateStreamRequest(
        alias=alias,
        max_tokens=max_tokens,
        stop=stop or (),
        sampling=pb.Sampling(temperature=temperature, top_p=top_p, top_k=top_k, seed=seed),
    )
    if raw:
        request.prompt = prompt
    else:
        request.messages.add(role="user", content=prompt)
    answer = stream(session, request)
    session.out.document(answer.to_json())
    session.out.say(_origin(answer))


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
    last = answer.last
    reason = enum_word(pb.FinishReason.DESCRIPTOR, last.finish_reason)
    return (
        f"[dim]{escape(last.alias)} · version {escape(short(last.version))} · generation {last.generation} · "
        f"{last.usage.completion_tokens} tokens · {reason}[/]"
    )
