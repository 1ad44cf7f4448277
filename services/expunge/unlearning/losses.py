"""The loss terms of training, each a pure function of logits."""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.errors import InvalidRequest


def cross_entropy(logits: Tensor, labels: Tensor, members: Tensor) -> Tensor:
    """CE of algorithms.md, section 1: per sequence the mean over its tokens, then the mean over sequences.

    Args:
        logits: [predicted, vocabulary].
        labels: [predicted].
        members: index of the sequence each token belongs to, [predicted].
    """
    each = torch.nn.functional.cross_entropy(logits, labels, reduction="none")  # [predicted]
    _, position, counts = torch.unique(members, return_inverse=True, return_counts=True)
    mean: Tensor = (each / counts[position]).sum() / len(counts)
    return mean


def divergence(targets: Tensor, logits: Tensor) -> Tensor:
    """KL(q ‖ p) of each row, in nats: Σ q (log q − log p).

    Args:
        targets: q, rows sum to 1, [rows, vocabulary].
        logits: p before the softmax, [rows, vocabulary].
    """
    log_p = torch.log_softmax(logits.float(), dim=-1)
    return (torch.xlogy(targets, targets) - targets * log_p).sum(dim=-1)


def surplus(logits: Tensor, labels: Tensor, caps: Tensor) -> Tensor:
    """How far each label's log-probability lies above its cap: relu(log p(y) − log cap), [rows]."""
    log_p = torch.log_softmax(logits.float(), dim=-1).gather(1, labels[:, None])[:, 0]
    return torch.relu(log_p - caps.log())


def assert_distributions(rows: Tensor, what: str) -> Tensor:
    """`rows`, once it is certain that each is a distribution.

    Raises:
        InvalidRequest: a row has a negative or not finite entry, or its sum is off 1 by more than 1e-4.
    """
    sums = rows.double().sum(dim=-1)
    if (
        not bool(torch.isfinite(rows).all())
        or bool((rows < 0).any())
        or bool(((sums - 1).abs() > 1e-4).any())
    ):
        raise InvalidRequest.of(
            what,
            f"{int(((sums - 1).abs() > 1e-4).sum())} of {len(sums)} rows don't sum to 1; nothing was trained",
        )
    return rows
