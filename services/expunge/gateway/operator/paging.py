"""Pages of a list: the token is the number of entries that came before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from expunge.errors import InvalidRequest

MAX_PAGE = 1000
MAX_TOKEN_CHARS = 18


class Dated(Protocol):
    """A record with an id and the time of its making."""

    @property
    def id(self) -> str: ...

    @property
    def created_at(self) -> float: ...


T = TypeVar("T")
D = TypeVar("D", bound=Dated)


def newest_first(records: Iterable[D]) -> list[D]:
    """The order in which records are listed."""
    return sorted(records, key=lambda record: (record.created_at, record.id), reverse=True)


def page_of(entries: Sequence[T], page_size: int, page_token: str) -> tuple[Sequence[T], str]:
    """One page of `entries`, and the token of the next ("" after the last).

    Raises:
        InvalidRequest: size or token are not valid.
    """
    if page_size > MAX_PAGE:
        raise InvalidRequest.of("page_size", f"must be at most {MAX_PAGE}")
    if page_token and (not page_token.isdecimal() or len(page_token) > MAX_TOKEN_CHARS):
        raise InvalidRequest.of("page_token", "is not one this service gave out")
    start = int(page_token or 0)
    end = start + (page_size or MAX_PAGE)
    return entries[start:end], str(end) if end < len(entries) else ""
