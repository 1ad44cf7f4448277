"""Pages of a list: the token is the number of entries that came before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from expunge.errors import InvalidRequest

T = TypeVar("T")
MAX_PAGE = 1000


def page_of(entries: Sequence[T], page_size: int, page_token: str) -> tuple[Sequence[T], str]:
    """One page of `entries`, and the token of the next ("" after the last).

    Raises:
        InvalidRequest: size or token are not valid.
    """
    if page_size > MAX_PAGE:
        raise InvalidRequest.of("page_size", f"must be at most {MAX_PAGE}")
    if page_token and not page_token.isdecimal():
        raise InvalidRequest.of("page_token", "is not one this service gave out")
    start = int(page_token or 0)
    end = start + (page_size or MAX_PAGE)
    return entries[start:end], str(end) if end < len(entries) else ""
