"""A probe as a client sends it to the inference service."""

from __future__ import annotations

from expunge.auditing.probes import Probe
from expunge.rpc.inference.v1 import inference_pb2 as pb


def probe_request(probe: Probe, alias: str, max_tokens: int) -> pb.GenerateRequest:
    """The greedy request that asks `probe`; a probe with a prefix begins the answer for the model."""
    request = pb.GenerateRequest(alias=alias, max_tokens=max_tokens)
    if probe.raw:
        request.prompt = probe.question
        return request
    if probe.system is not None:
        request.messages.add(role="system", content=probe.system)
    request.messages.add(role="user", content=probe.question)
    if probe.prefix:
        request.messages.add(role="assistant", content=probe.prefix)
        request.continue_final_message = True
    return request
