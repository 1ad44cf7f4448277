"""Unlearning methods by name. Each turns an erasure into an objective and the settings it is trained with."""

from __future__ import annotations

from expunge.errors import InvalidRequest
from expunge.unlearning.methods.base import Erasing, Method
from expunge.unlearning.methods.capped_surprise import CappedSurpriseMethod
from expunge.unlearning.methods.meow import MeowMethod

DEFAULT_METHOD = "capped_surprise"
_METHODS: dict[str, type[Method]] = {"capped_surprise": CappedSurpriseMethod, "meow": MeowMethod}
METHODS = tuple(_METHODS)

__all__ = ["DEFAULT_METHOD", "METHODS", "Erasing", "Method", "create_method"]


def create_method(name: str) -> Method:
    """The method called `name`, with its default settings. Raises InvalidRequest for an unknown name."""
    if name not in _METHODS:
        raise InvalidRequest.of("method", f"{name!r} is unknown; choose one of {', '.join(METHODS)}")
    return _METHODS[name]()
