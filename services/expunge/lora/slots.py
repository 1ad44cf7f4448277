"""The versions that are resident in a model, each in a slot.

A slot number is handed out once and never again, so that a number kept for too long can't reach another
version. Number 0 is never handed out. Memory is taken at an adapter's own rank when it is loaded, and given
back when it is unloaded; the table's size bounds how many there are.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from expunge.errors import FailedPrecondition, InvalidRequest, ModelError, VersionNotStaged
from expunge.lora.adapter import Adapter
from expunge.lora.linear import (
    MultiAdapterLinear,
    Products,
    Routing,
    RowGroup,
    RowPlan,
    RowTable,
    StagedPairs,
)
from expunge.lora.shape import ModelShape
from expunge.lora.validation import check_fit
from expunge.models.manifest import BASE_PREFIX, is_base


@dataclass
class _Slot:
    number: int
    version: str
    pairs: StagedPairs | None  # None: the base version
    uses: int = 0  # forward passes that run on it

    def __post_init__(self) -> None:
        # int64 [layers, 3], as in `RowTable`; made once, since a plan is made for every pass
        self.factors = torch.tensor(
            [
                (0, 0, 0) if pair is None else (pair[0].data_ptr(), pair[1].data_ptr(), pair[0].shape[0])
                for pair in self.pairs or ()
            ],
            dtype=torch.int64,
        )
        self.rank = int(self.factors[:, 2].max()) if self.pairs else 0


class SlotTable:
    """Which versions a model can answer as, and which rows run on which.

    Loading and unloading are safe while another thread runs the model. Make one with `install`.
    """

    def __init__(
        self,
        layers: Sequence[MultiAdapterLinear],
        routing: Routing,
        shape: ModelShape,
        slots: int,
        max_rank: int,
    ) -> None:
        self.capacity = slots
        self.max_rank = max_rank
        self.shape = shape
        self._layers = dict(zip(shape.modules, layers, strict=True))
        self._device, self._dtype = layers[0].weight.device, layers[0].weight.dtype
        self._routing = routing
        self._by_version: dict[str, _Slot] = {}
        self._by_number: dict[int, _Slot] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    @classmethod
    def install(
        cls, model: PreTrainedModel, slots: int, max_rank: int, *, base_digest: str = ""
    ) -> SlotTable:
        """Replace every linear layer of `model` that can carry an adapter, in place, and return its table.

        From then on the model computes only inside `rows()`.

        Args:
            model: a plain causal LM.
            slots: how many adapters may be resident; the base version does not count.
            max_rank: highest rank accepted.
            base_digest: manifest digest of the model, for the checks of `load`.

        Raises:
            ModelError: the model has no plain linear layers, or a table already.
        """
        shape = ModelShape.of(model, base_digest)
        routing = Routing()
        layers = []
        for index, path in enumerate(shape.modules):
            parent, _, name = path.rpartition(".")
            linear = model.get_submodule(path)
            if type(linear) is not nn.Linear:
                raise ModelError(
                    f"layer {path} is a {type(linear).__name__}; adapters need plain linear layers"
                )
            layers.append(MultiAdapterLinear(linear, index, routing))
            setattr(model.get_submodule(parent), name, layers[-1])
        if not layers:
            raise ModelError(f"{type(model).__name__} has no linear layer that can carry an adapter")
        return cls(layers, routing, shape, slots, max_rank)

    def multiply_with(self, products: Products) -> None:
        """Let `products` hold the weights of the linear layers and compute them.

        For fp32 on a CPU, with widths that are multiples of 16: where a layer is not so, nothing changes.
        """
        fits = all(
            layer.weight.device.type == "cpu"
            and layer.weight.dtype is torch.float32
            and layer.in_features % 16 == layer.out_features % 16 == 0
            for layer in self._layers.values()
        )
        if fits:
            for layer in self._layers.values():
                layer.pack(products)
            self._routing.products = products

    def load(self, version: str, adapter: Adapter) -> int:
        """Make an adapter resident under its version id, in the model's own dtype; returns its slot number.

        A version that is resident already is left as it is: versions never change. Nothing is visible until
        all of it is there.

        Raises:
            InvalidAdapter: it does not fit the model.
            InvalidRequest: a base version's id.
            FailedPrecondition: the table is full.
        """
        if is_base(version):
            raise InvalidRequest.of(
                "version", f"{version} names a base version; an adapter can't take its place"
            )
        if version in self._by_version:
            return self.slot_of(version)
        check_fit(adapter, self.shape, max_rank=self.max_rank)
        with torch.inference_mode(False), torch.no_grad():
            pairs = [self._stage(path, adapter) for path in self.shape.modules]
        return self._add(version, pairs)

    def load_base(self, version: str) -> int:
        """Let rows run on the base model, under its own version id; returns its slot number.

        Raises:
            InvalidRequest: the id is not a base version's.
        """
        if not is_base(version):
            raise InvalidRequest.of(
                "version", f"{version} is no base version; its id starts with {BASE_PREFIX!r}"
            )
        return self._add(version, None)

    def unload(self, version: str) -> None:
        """Remove a version; its factors are overwritten with zeros and freed.

        Raises:
            VersionNotStaged: it is not resident.
            FailedPrecondition: a forward pass runs on it right now.
        """
        with self._lock:
            slot = self._find(version)
            if slot.uses:
                raise FailedPrecondition(
                    f"version {version} is in use by a running forward pass; unload it after"
                )
            del self._by_version[version], self._by_number[slot.number]
        for pair in slot.pairs or ():
            for factor in pair or ():
                factor.zero_()

    def slot_of(self, version: str) -> int:
        """The slot number of a resident version.

        Raises:
            VersionNotStaged: it is not resident.
        """
        with self._lock:
            return self._find(version).number

    @property
    def versions(self) -> tuple[str, ...]:
        """The resident versions, in the order in which they were loaded."""
        with self._lock:
            return tuple(self._by_version)

    @contextlib.contextmanager
    def rows(self, slot_numbers: torch.Tensor | Sequence[int]) -> Iterator[None]:
        """Within the block, on this thread, the model's row i runs on slot `slot_numbers[i]`.

        Rows of one version are cheapest side by side.

        Raises:
            VersionNotStaged: a number is 0 or not in the table.
            FailedPrecondition: there are no rows.
        """
        numbers = slot_numbers.tolist() if isinstance(slot_numbers, torch.Tensor) else list(slot_numbers)
        if not numbers:
            raise FailedPrecondition("a forward pass needs at least one row")
        with self._lock:
            used = {number: self._at(number) for number in numbers}
            for slot in used.values():
                slot.uses += 1
        before = self._routing.current
        try:
            self._routing.current = self._plan(numbers, used)
            yield
        finally:
            self._routing.current = before
            with self._lock:
                for slot in used.values():
                    slot.uses -= 1

    def _plan(self, numbers: list[int], used: dict[int, _Slot]) -> RowPlan:
        groups: list[RowGroup] = []
        slots: list[_Slot] = []
        for number, slot in used.items():
            if slot.pairs is None:
                continue
            rows = [row for row, value in enumerate(numbers) if value == number]
            start, stop = rows[0], rows[-1] + 1
            is_scattered = stop - start != len(rows)
            indices = torch.tensor(rows, device=self._device) if is_scattered else None
            groups.append(RowGroup(slot.pairs, start, stop, indices))
            slots.append(slot)
        if self._routing.products is None or any(group.indices is not None for group in groups):
            return RowPlan(len(numbers), tuple(groups))
        return RowPlan(len(numbers), tuple(groups), _table(groups, slots))

    def _stage(self, path: str, adapter: Adapter) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A [rank, in] and scale · Bᵀ [rank, out] as copies on the model's device, in its dtype."""
        if path not in adapter.pairs:
            return None
        pair = adapter.pairs[path]
        scaled = pair.b.detach().to(torch.float32).T * adapter.config.scale_of(path)
        a = pair.a.detach().to(self._device, self._dtype, copy=True)
        return a.contiguous(), scaled.to(self._device, self._dtype).contiguous()

    def _add(self, version: str, pairs: StagedPairs | None) -> int:
        with self._lock:
            if version in self._by_version:
                return self._by_version[version].number
            resident = sum(slot.pairs is not None for slot in self._by_version.values())
            if pairs is not None and resident >= self.capacity:
                raise FailedPrecondition(
                    f"all {self.capacity} adapter slots are taken; retire a version or raise adapter_slots",
                    reason="SLOTS_FULL",
                )
            slot = _Slot(next(self._numbers), version, pairs)
            self._by_version[version] = self._by_number[slot.number] = slot
            return slot.number

    def _find(self, version: str) -> _Slot:
        if version not in self._by_version:
            raise VersionNotStaged(f"version {version} is not resident here; load it first")
        return self._by_version[version]

    def _at(self, number: int) -> _Slot:
        if number not in self._by_number:
            raise VersionNotStaged(
                f"slot {number} holds no version; a row without a version is never answered"
            )
        return self._by_number[number]


def _table(groups: Sequence[RowGroup], slots: Sequence[_Slot]) -> RowTable | None:
    if not groups:
        return None
    ranges = torch.tensor([(group.start, group.stop) for group in groups])
    factors = torch.stack([slot.factors for slot in slots], dim=1)
    return RowTable(factors, ranges, max(slot.rank for slot in slots))
