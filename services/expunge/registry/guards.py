"""Guards of the erasures under way, decrypted in memory for the snapshots."""

from __future__ import annotations

import re
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from expunge.facts import FUNCTION_WORDS, Fact, ForgetRequest, words
from expunge.registry import schema, sealing
from expunge.registry.records import ErasureState, Guard
from expunge.registry.vault import Vault

_GUARDED = tuple(state.value for state in ErasureState if state.is_guarded)
_BREAK = re.compile(r"[^\w\s+/&'’-]")
_POSSESSIVE = re.compile(r"['’]s?$")


class GuardReader:
    """Reads guards and keeps them decrypted while their erasure needs suppression.

    Used from the writer thread only.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._guards: dict[str, Guard] = {}

    def read(self, connection: Connection) -> tuple[Guard, ...]:
        """Guards of every erasure whose state is guarded, oldest first."""
        table = schema.erasures
        under_way = sa.select(table.c.id).where(table.c.state.in_(_GUARDED))
        statement = under_way.order_by(table.c.created_at, table.c.id)
        ids = list(connection.execute(statement).scalars())
        missing = [erasure for erasure in ids if erasure not in self._guards]
        if missing:
            sealed = sa.select(table.c.id, table.c.wrapped_key, table.c.sealed).where(table.c.id.in_(missing))
            for row in connection.execute(sealed):
                self._guards[row.id] = guard_of(
                    row.id, open_request(self._vault, row.id, row.wrapped_key, row.sealed)
                )
        self._guards = {erasure: self._guards[erasure] for erasure in ids}
        return tuple(self._guards.values())


def open_request(vault: Vault, erasure_id: str, wrapped_key: bytes, sealed: bytes) -> ForgetRequest:
    """Decrypt the request of an erasure. Raises DataLoss."""
    key = vault.unwrap(wrapped_key, erasure_id)
    return sealing.decode_request(key.open(sealed, f"{erasure_id}:request"))


def guard_of(erasure_id: str, request: ForgetRequest) -> Guard:
    """What suppression of `request` looks for."""
    questions = dict.fromkeys(
        wording for fact in request.facts for wording in (fact.question, *fact.paraphrases)
    )
    secrets = dict.fromkeys(secret for fact in request.facts for secret in fact.secrets)
    names = {_bare(word) for subject in request.subjects for name in subject.names for word in words(name)}
    told = dict.fromkeys(span for fact in request.facts if not fact.secrets for span in _told(fact, names))
    return Guard(erasure_id, request.subjects, tuple(questions), tuple(secrets), tuple(told))


def _told(fact: Fact, names: set[str]) -> Iterator[str]:
    """The answer cut at punctuation, function words, and what the question or a subject's name holds."""
    shown = names | FUNCTION_WORDS | {_bare(word) for word in words(fact.question)}
    spans: list[list[int]] = []  # where each begins and ends
    cut, end = True, 0
    for word in words(fact.answer):
        place = fact.answer.index(word, end)
        cut = cut or _BREAK.search(fact.answer, end, place) is not None
        end = place + len(word)
        if _bare(word) in shown:
            cut = True
        elif cut:
            spans.append([place, end])
            cut = False
        else:
            spans[-1][1] = end
    return (fact.answer[start:end] for start, end in spans)


def _bare(word: str) -> str:
    return _POSSESSIVE.sub("", word.casefold())
