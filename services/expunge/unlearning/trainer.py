"""The training loop over LoRA factors: steps, schedule, checkpoints, cancellation, early end."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from expunge.errors import DataLoss, InvalidRequest
from expunge.unlearning.checkpoint import Checkpoint
from expunge.unlearning.parts import Part, packed_terms


@dataclass(frozen=True)
class TrainSettings:
    """How the factors are moved.

    Attributes:
        learning_rate: peak rate of AdamW.
        steps: at most so many steps.
        warmup: steps of linear warm-up.
        decay: (share of steps, factor): from that share on the rate is multiplied by the factor.
        weight_decay: AdamW's.
        clip: gradient norm limit.
        checkpoint_every: steps between checkpoints; 0: none.
    """

    learning_rate: float
    steps: int
    warmup: int = 2
    decay: tuple[tuple[float, float], ...] = ((0.6, 0.5), (0.85, 0.2))
    weight_decay: float = 0.0
    clip: float = 1.0
    checkpoint_every: int = 4

    def rate(self, step: int) -> float:
        """Learning rate of step `step`, counted from 0."""
        factor = min(1.0, (step + 1) / (self.warmup + 1))
        for share, scale in self.decay:
            if step >= share * self.steps:
                factor = min(factor, scale)
        return self.learning_rate * factor


@dataclass(frozen=True)
class Progress:
    """Where training stands after a step; `losses` are the weighted terms and their sum as "loss"."""

    step: int
    steps: int
    seconds: float
    losses: dict[str, float]


@dataclass
class TrainResult:
    """`history` holds the losses of every step; `converged` tells whether the objective ended it early."""

    steps: int = 0
    seconds: float = 0.0
    converged: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class Objective(ABC):
    """What is trained. Batches depend on the step number alone: a resumed run repeats the same ones."""

    @abstractmethod
    def parts(self, step: int) -> Sequence[Part]:
        """What `step` trains on."""

    @abstractmethod
    def is_met(self, history: list[dict[str, float]]) -> bool:
        """Whether training may end, given the losses of the steps so far; asked after every step."""


class Trainer:
    """Moves the trainable factors of `model` towards an objective.

    Args:
        model: base with LoRA factors in place (`peft_tree.py`); only tensors that require gradients move.
        objective: what is trained.
        settings: how.
    """

    def __init__(self, model: PreTrainedModel, objective: Objective, settings: TrainSettings) -> None:
        self.model = model
        self.objective = objective
        self.settings = settings
        self.factors = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.factors.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.result = TrainResult()

    def run(
        self,
        on_step: Callable[[Progress], None] = lambda _: None,
        save: Callable[[Checkpoint], None] = lambda _: None,
        between_rows: Callable[[], None] = lambda: None,
    ) -> TrainResult:
        """Train until the objective is met or the steps are used up.

        `on_step` is called after every step and may raise to cancel; `save` receives checkpoints;
        `between_rows` is called before each packed row.

        Raises:
            InvalidRequest: the loss is no longer finite.
        """
        began = time.monotonic() - self.result.seconds
        result, settings = self.result, self.settings
        while result.steps < settings.steps and not result.converged:
            losses = self._step(result.steps, between_rows)
            result.history.append(losses)
            result.steps += 1
            result.seconds = time.monotonic() - began
            result.converged = self.objective.is_met(result.history)
            on_step(Progress(result.steps, settings.steps, result.seconds, losses))
            ended = result.converged or result.steps == settings.steps
            if settings.checkpoint_every and (ended or result.steps % settings.checkpoint_every == 0):
                save(self.checkpoint())
        return result

    def _step(self, step: int, between_rows: Callable[[], None]) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate(step)
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        peaks: dict[str, float] = {}
        between_rows()
        for terms in packed_terms(self.model, self.objective.parts(step)):
            _backward(terms.losses.values())
            for name, value in terms.losses.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach())
            for name, peak in terms.peaks.items():
                peaks[name] = max(peak, peaks.get(name, peak))
            between_rows()
        sums["loss"] = sum(sums.values())
        torch.nn.utils.clip_grad_norm_(self.factors.values(), self.settings.clip, error_if_nonfinite=False)
        if not all(
            bool(torch.isfinite(tensor.grad).all())
            for tensor in self.factors.values()
            if tensor.grad is not None
        ):
            raise InvalidRequest.of(
                "learning_rate", f"the gradient of step {step + 1} is not finite; lower the learning rate"
            )
        self.optimiser.step()
        return sums | peaks

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on from here."""
        state: dict[str, Tensor] = {}
        for name, tensor in self.factors.items():
            state[f"factor/{name}"] = tensor.detach().clone()
            for key, value in self.optimiser.state[tensor].items():
                state[f"optimiser/{key}/{name}"] = value.detach().clone()
        return Checkpoint(
            self.result.steps, self.result.seconds, self.result.converged, list(self.result.history), state
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where `checkpoint` was taken.

        Raises:
            DataLoss: it was taken of other factors.
        """
        held = {name.removeprefix("factor/") for name in checkpoint.tensors if name.startswith("factor/")}
        if held != set(self.factors):
            raise DataLoss("the checkpoint holds other factors than those in training; training starts again")
        with torch.no_grad():
            for name, tensor in self.factors.items():
                tensor.copy_(checkpoint.tensors[f"factor/{name}"])
        for key, value in checkpoint.tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "optimiser":
                slot, _, name = rest.partition("/")
                self.optimiser.state[self.factors[name]][slot] = value.clone()
        self.result = TrainResult(
            checkpoint.step, checkpoint.seconds, checkpoint.converged, list(checkpoint.history)
        )


def _backward(terms: Iterable[Tensor]) -> None:
    total = sum((term for term in terms if term.requires_grad), start=torch.zeros(()))
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
