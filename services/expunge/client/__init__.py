"""A client of Expunge's inference API: `Client` for threads, `AsyncClient` for coroutines.

    with Client("127.0.0.1:50051", token) as client:
        answer = client.generate(messages=[user("What is the capital of France?")])
        print(answer.text, answer.version)

It imports neither torch nor Ray, and knows nothing of the service but its protos.
"""

from expunge.client.asynchronous import AsyncClient
from expunge.client.channel import DEFAULT_TIMEOUT_S, Tls
from expunge.client.failures import (
    AlreadyExists,
    CallCancelled,
    CallError,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    RefusedByPolicy,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from expunge.client.request import Message, Priority, Request, Sampling, assistant, system, user
from expunge.client.results import (
    Answer,
    Choice,
    Chunk,
    FinishReason,
    Model,
    ModelTarget,
    Score,
    TokenLogprob,
    TokenScore,
    Usage,
)
from expunge.client.retries import NO_RETRIES, RetryPolicy
from expunge.client.synchronous import Client

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "NO_RETRIES",
    "AlreadyExists",
    "Answer",
    "AsyncClient",
    "CallCancelled",
    "CallError",
    "Choice",
    "Chunk",
    "Client",
    "DataLoss",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FinishReason",
    "InvalidRequest",
    "Message",
    "Model",
    "ModelTarget",
    "NotFound",
    "Overloaded",
    "PermissionDenied",
    "Priority",
    "RefusedByPolicy",
    "Request",
    "RetryPolicy",
    "Sampling",
    "Score",
    "Tls",
    "TokenLogprob",
    "TokenScore",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Usage",
    "assistant",
    "system",
    "user",
]
