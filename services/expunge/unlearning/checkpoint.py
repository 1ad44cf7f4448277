"""A training run as bytes: factors, optimiser state and history, in safetensors only."""

from __future__ import annotations

import json
from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from expunge.errors import DataLoss

_HEADER_LENGTH = 8  # bytes of safetensors' own header length, little endian


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` steps and `seconds` of training; `tensors` is the trainer's own dictionary."""

    step: int
    seconds: float
    converged: bool
    history: list[dict[str, float]]
    tensors: dict[str, Tensor]

    def to_bytes(self) -> bytes:
        """One safetensors file with the small facts in its metadata."""
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "converged": self.converged,
            "history": self.history,
        }
        tensors = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return bytes(save(tensors, metadata={"checkpoint": json.dumps(facts)}))

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        """Read what `to_bytes` wrote.

        Raises:
            DataLoss: the bytes are no whole checkpoint.
        """
        try:
            tensors = load(data)
            length = int.from_bytes(data[:_HEADER_LENGTH], "little")
            header = json.loads(data[_HEADER_LENGTH : _HEADER_LENGTH + length])
            facts = json.loads(header["__metadata__"]["checkpoint"])
        except (SafetensorError, ValueError, KeyError) as error:
            raise DataLoss(f"the checkpoint can't be read: {error}; training starts again") from error
        return cls(facts["step"], facts["seconds"], facts["converged"], facts["history"], dict(tensors))
