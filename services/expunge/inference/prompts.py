"""From requests to the token ids that are run, the same for every backend."""

from __future__ import annotations

from expunge.errors import InvalidRequest
from expunge.inference.codec import TextCodec
from expunge.inference.request import GenerationRequest, ScoreRequest


def prompt_tokens(request: GenerationRequest, codec: TextCodec, context: int) -> list[int]:
    """Token ids of the prompt or conversation.

    Args:
        context: prompt and output tokens that are allowed together.

    Raises:
        InvalidRequest: it has no tokens, or leaves no room for an answer.
    """
    if request.prompt_tokens:
        field, tokens = "prompt_tokens", list(request.prompt_tokens)
    elif request.prompt is not None:
        field, tokens = "prompt", codec.encode(request.prompt)
    else:
        field, (*turns, last) = "messages", request.messages
        if request.continue_final_message:
            tokens = codec.chat_ids(turns, last.content)
        else:
            tokens = codec.chat_ids(request.messages)
    most = context - min(1, request.max_tokens)
    if not 0 < len(tokens) <= most:
        raise InvalidRequest.of(field, f"has {len(tokens)} tokens; allowed are 1 to {most}, shorten it")
    return tokens


def score_tokens(request: ScoreRequest, codec: TextCodec, context: int) -> tuple[list[int], list[int]]:
    """Token ids of the context, at least one, and of the continuation.

    Raises:
        InvalidRequest: the continuation has no token of its own, or both do not fit into `context` tokens.
    """
    whole = codec.encode(request.context + request.continuation)
    alone = codec.encode(request.context)
    shared = 0
    while shared < min(len(whole), len(alone)) and whole[shared] == alone[shared]:
        shared += 1
    before, continuation = whole[:shared] or [codec.start_id], whole[shared:]
    if not continuation:
        raise InvalidRequest.of("continuation", "has no tokens of its own; give more text")
    if len(before) + len(continuation) > context:
        raise InvalidRequest.of(
            "context", f"and continuation have {len(whole)} tokens; {context} are allowed, shorten them"
        )
    return before, continuation
