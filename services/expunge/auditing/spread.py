"""Some of many items, evenly spread over all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def spread(items: Sequence[Item], most: int) -> tuple[Item, ...]:
    """At most `most` of `items`, the first one included."""
    if len(items) <= most:
        return tuple(items)
    return tuple(items[index * len(items) // most] for index in range(most))
