"""A linear layer that applies a different adapter to every row.

    y[row] = x[row] Wᵀ + bias + (x[row] A[slot]ᵀ) (scale · B[slot])ᵀ        slot = slots of the running plan
    [row]

Rows are grouped by slot once per forward pass of the whole model (`RowPlan`), not once per layer. A group of
all rows, or of neighbouring rows, costs two matrix products and no copy; rows of the base version cost
nothing. Where faster products are at hand (`Routing.products`), one call of theirs computes the layer, or all
layers that share their input, and adds all groups that are of neighbours.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from expunge.errors import VersionNotStaged

# A [rank, in], and scale · Bᵀ [rank, out], of every adapted layer by layer index; None where a layer is not
# adapted
StagedPairs = list[tuple[torch.Tensor, torch.Tensor] | None]


@dataclass(frozen=True)
class RowGroup:
    """Rows that share one adapter: a range of neighbours, or scattered indices."""

    pairs: StagedPairs
    start: int
    stop: int
    indices: torch.Tensor | None = None  # [rows of the group], None for the range


@dataclass(frozen=True)
class RowTable:
    """The groups of a plan as numbers, for a product of all of them at once.

    Attributes:
        factors: int64 [layers, groups, 3]: addresses of A and scale · Bᵀ, and the rank (0: not adapted).
        ranges: int64 [groups, 2]: first and last row, exclusive, of each group, ascending.
        most_rank: the highest of the ranks.
    """

    factors: torch.Tensor
    ranges: torch.Tensor
    most_rank: int


@dataclass(frozen=True)
class RowPlan:
    """Which adapter each of `rows` rows runs on; rows in no group run on the base version."""

    rows: int
    groups: tuple[RowGroup, ...]
    table: RowTable | None = None


@dataclass(frozen=True)
class PackedLayer:
    """A linear layer whose weight is held by `Products`.

    Attributes:
        weight: what `Products.pack` made of it.
        index: the layer's in a `RowTable`.
    """

    weight: object
    bias: torch.Tensor | None
    index: int


class Product(Protocol):
    """What computes one layer, or several that share their input."""

    def __call__(self, x: torch.Tensor, table: RowTable | None = None) -> tuple[torch.Tensor, ...]:
        """x [rows, 1, in], contiguous → [rows, 1, out] of every layer, with what the rows' adapters add."""
        ...


class Products(Protocol):
    """Faster ways to compute what this layer does; fp32 on a CPU."""

    def pack(self, weight: torch.Tensor) -> object:
        """A weight [out, in] in a form of its own."""
        ...

    def join(self, layers: Sequence[PackedLayer]) -> Product:
        """The product of layers that share their input."""
        ...


class Routing:
    """The plan of the forward pass that runs on this thread; all layers of one model share one routing.

    Attributes:
        products: used instead of torch's; None: there are none.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self.products: Products | None = None

    @property
    def current(self) -> RowPlan | None:
        return getattr(self._local, "plan", None)

    @current.setter
    def current(self, plan: RowPlan | None) -> None:
        self._local.plan = plan

    def plan_for(self, x: torch.Tensor) -> RowPlan:
        """The running plan, which must be made for exactly the rows of `x`.

        Raises:
            VersionNotStaged: no plan runs on this thread, or it is for other rows; nothing is ever computed
                without a version.
        """
        plan = self.current
        if plan is None:
            raise VersionNotStaged(
                "the model was run without versions for its rows; run it in SlotTable.rows()"
            )
        if x.dim() != 3 or x.shape[0] != plan.rows:
            raise VersionNotStaged(
                f"a layer got an input of shape {list(x.shape)}, but versions were given for "
                f"{plan.rows} rows; inputs must be [rows, tokens, width]"
            )
        return plan


class MultiAdapterLinear(nn.Linear):
    """A linear layer with per-row adapters.

    It keeps the very weight and bias of the layer it replaces, under the same names, so that state dicts and
    `ModelShape` see an ordinary linear layer, until the weight is packed. Without a running plan it refuses
    to compute.
    """

    def __init__(self, linear: nn.Linear, index: int, routing: Routing) -> None:
        nn.Module.__init__(self)
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.weight = linear.weight
        self.bias = linear.bias
        self.index = index
        self.routing = routing
        self.packed: PackedLayer | None = None
        self._product: Product | None = None

    def pack(self, products: Products) -> None:
        """Let `products` hold the weight; the layer itself has none afterwards."""
        self.packed = PackedLayer(products.pack(self.weight), self.bias, self.index)
        self._product = products.join([self.packed])
        self.register_parameter("weight", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, tokens, in] → [rows, tokens, out].

        Raises:
            VersionNotStaged: the rows have no versions.
        """
        plan = self.routing.plan_for(x)
        if self._product is None:
            out = functional.linear(x, self.weight, self.bias)
        elif plan.table is not None and x.shape[1] == 1:
            return self._product(x.contiguous(), plan.table)[0]
        else:
            tokens = x.reshape(-1, 1, self.in_features)
            out = self._product(tokens)[0].view(*x.shape[:2], self.out_features)
        for group in plan.groups:
            pair = group.pairs[self.index]
            if pair is None:
                continue
            a, b = pair
            if group.indices is not None:
                hidden = functional.linear(x.index_select(0, group.indices), a)  # [group, tokens, rank]
                out.index_add_(0, group.indices, hidden @ b)
            else:
                hidden = functional.linear(x[group.start : group.stop], a)
                rows = out[group.start : group.stop].view(-1, self.out_features)  # a view: adds in place
                rows.addmm_(hidden.reshape(-1, a.shape[0]), b)
        return out


class SharedInput:
    """Packed layers that share their input, computed together where the running plan allows it."""

    def __init__(self, layers: Sequence[MultiAdapterLinear], products: Products) -> None:
        self._layers = tuple(layers)
        self._product = products.join([layer.packed for layer in layers if layer.packed is not None])

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """x [rows, 1, in] → [rows, 1, out] of every layer.

        Raises:
            VersionNotStaged: the rows have no versions.
        """
        plan = self._layers[0].routing.plan_for(x)
        if plan.groups and plan.table is None:  # rows of one version are scattered
            return tuple(layer(x) for layer in self._layers)
        return self._product(x.contiguous(), plan.table)
