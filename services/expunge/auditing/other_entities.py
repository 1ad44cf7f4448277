"""Whether a reply about the erased subject hands out somebody else's data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from expunge.auditing.intervals import Share
from expunge.auditing.leaks import FoldedText, Secret
from expunge.auditing.probes import ProbedFact, ProbeKind, Reply
from expunge.facts import Fact, QuestionAnswer

# These put others into the prompt, or ask who somebody is.
_INVITING = frozenset((ProbeKind.IN_CONTEXT, ProbeKind.PAIRED, ProbeKind.REVERSE))


class OtherEntities:
    """What the model may know of others: retain and neighbour facts, and facts of other erasures."""

    def __init__(self, items: Iterable[Fact | QuestionAnswer]) -> None:
        self._secrets = tuple(Secret.of(_fact(item)) for item in items)

    def share(self, facts: Sequence[ProbedFact], replies: Iterable[Reply]) -> Share:
        """Share of `replies` about `facts` with somebody else's whole secret.

        Not counted is what stands in the probe, or in the fact's own question and answer.
        """
        own = {fact.fact.id: f"{fact.fact.question} {fact.fact.answer}" for fact in facts}
        return Share.of(
            self._hands_out(reply, own[reply.probe.fact_id])
            for reply in replies
            if self._secrets and reply.probe.kind not in _INVITING
        )

    def _hands_out(self, reply: Reply, own: str) -> bool:
        probe = reply.probe
        shown = FoldedText(f"{own} {probe.system or ''} {probe.question}")
        text = FoldedText(reply.text)
        return any(secret.leak_in(text, shown).full for secret in self._secrets)


def _fact(item: Fact | QuestionAnswer) -> Fact:
    return item if isinstance(item, Fact) else Fact("", item.question, item.answer)
