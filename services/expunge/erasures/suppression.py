"""The interim guard: which prompts are refused from the moment an erasure is accepted until it closes.

A prompt is in scope when it names a subject (`names.py`), also misspelled by a letter (`altered_names.py`),
asks an erased question without the name (`similarity.py`), or quotes a secret or its beginning
(`secret_spans.py`). Where the operator gave no secrets, the names, addresses and numbers of the answer stand
in for them, as far as they are telling by themselves; its other words count only together with the question.
In a conversation everything said so far counts, in any turn. The guard works on words, without embeddings: it
does not see a translation, a riddle or an encoding, nor a short or well-known name misspelled out of context,
and it refuses prompts about namesakes who share a surname. Both end with the erasure, which does not rest
on it.

Guards hold plain text of the subjects, so a book lives in memory only and is never logged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from expunge.erasures.folding import FoldedText, readings
from expunge.erasures.names import NameIndex
from expunge.erasures.secret_spans import SecretIndex
from expunge.erasures.similarity import QuestionIndex
from expunge.inference.request import Message
from expunge.registry.records import Guard

_NONE: frozenset[str] = frozenset()


class GuardBook:
    """All guards in force, compiled for matching; immutable, so a new snapshot makes a new book.

    `passing` names the erasures whose guard the caller's credential passes; all others still hold.
    """

    def __init__(self, guards: Iterable[Guard] = ()) -> None:
        guards = tuple(guards)
        self._names = NameIndex()
        self._questions = QuestionIndex(self._names)
        self._secrets = SecretIndex()
        self.erasure_ids: frozenset[str] = frozenset(guard.erasure_id for guard in guards)
        for guard in guards:
            for subject in guard.subjects:
                for name in subject.names:
                    self._names.add(guard.erasure_id, name)
        for guard in guards:
            for question in guard.questions:
                self._questions.add(guard.erasure_id, question)
            for secret in guard.secrets:
                self._secrets.add(guard.erasure_id, secret)
            for span in guard.told:
                self._secrets.add_told(guard.erasure_id, span)

    def match(self, text: str, passing: frozenset[str] = _NONE) -> str | None:
        """The id of an erasure that `text` falls under, or None."""
        if self.erasure_ids <= passing:
            return None
        found = (erasure_id for folded in readings(text) for erasure_id in self._in_scope(folded))
        return next((erasure_id for erasure_id in found if erasure_id not in passing), None)

    def match_messages(self, messages: Sequence[Message], passing: frozenset[str] = _NONE) -> str | None:
        """As `match`, over all turns of a conversation together, and over those between the answers alone."""
        asked = [message.content for message in messages if message.role != "assistant"]
        found = self.match("\n".join(message.content for message in messages), passing)
        if found is None and 1 < len(asked) < len(messages):
            found = self.match("\n".join(asked), passing)
        return found

    def match_score(self, context: str, continuation: str, passing: frozenset[str] = _NONE) -> str | None:
        """As `match`, for text to be scored: as one text, which may be cut anywhere, and each part alone."""
        return (
            self.match(context + continuation, passing)
            or self.match(context, passing)
            or self.match(continuation, passing)
        )

    def _in_scope(self, text: FoldedText) -> Iterable[str]:
        yield from self._names.named(text)
        altered = self._names.altered(text)
        for resemblance in altered.values():
            yield from resemblance.named
        yield from self._secrets.quoted(text)
        quoted = self._secrets.needing_support(text)
        for window in self._questions.windows(text, altered):
            yield from self._questions.asked(window)
            if quoted:
                yield from self._questions.supported(window) & quoted
