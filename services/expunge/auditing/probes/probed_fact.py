"""A fact with its secret and every probe that may bring it out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from expunge.auditing.leaks import Secret
from expunge.auditing.paraphrases import AUDIT_TEMPLATES, paraphrases
from expunge.auditing.probes.attacks import Attacks, shipped_attacks
from expunge.auditing.probes.blanks import fill, fit_company
from expunge.auditing.probes.plain import cloze, direct, prefixes
from expunge.auditing.probes.probe import Probe, ProbeKind, Reply
from expunge.facts import Fact, QuestionAnswer, Subject

if TYPE_CHECKING:
    from expunge.auditing.policy import Policy

MAX_PREFIXES = 64
EVERY_KIND = frozenset(ProbeKind)


class ProbedFact:
    """A fact with its secret and the probes that still have something secret to bring out.

    Plain questions come first, beginnings of the answer last.

    Args:
        subject: whose fact it is; without one nothing can be asked in reverse.
        templates: other wordings.
        attacks: templates of every other kind; None: those that come along.
        company: other questions and answers that may stand beside it; none: those of `attacks`.
        kinds: of the probes to make.
        max_prefixes: beginnings of the answer, evenly spread where there are more.
        sought: whose name a reverse probe looks for; None: the subject's.
    """

    def __init__(
        self,
        fact: Fact,
        subject: Subject | None = None,
        *,
        templates: tuple[str, ...] = AUDIT_TEMPLATES,
        attacks: Attacks | None = None,
        company: Sequence[QuestionAnswer] = (),
        kinds: Collection[ProbeKind] = EVERY_KIND,
        max_prefixes: int = MAX_PREFIXES,
        sought: Subject | None = None,
    ) -> None:
        self.fact = fact
        self.subject = subject
        self.secret = Secret.of(fact)
        named = sought or subject
        self._identity = Secret.of(Fact("", "", "", secrets=named.names if named and subject else ("",)))
        asked = (
            *direct(fact),
            *(Probe(fact.id, ProbeKind.PARAPHRASE, text) for text in paraphrases(fact, templates)),
            *cloze(fact, self.secret),
            *self._attacks(attacks or shipped_attacks(), company),
            *prefixes(fact, max_prefixes),
        )
        self.probes = tuple(
            probe for probe in asked if probe.kind in kinds and self._sought(probe).left(probe.shown)
        )

    def judge(self, probe: Probe, text: str) -> Reply:
        """Whether `text` gives the secret away to someone who knows what the probe shows.

        The secret of a reverse probe is who the fact is about: every word of one of the subject's names.
        Either way what must not come back is that the two belong together.
        """
        return Reply(probe, text, self._sought(probe).leak(text, probe.shown))

    def expected(self, probe: Probe) -> str:
        """What a reply says that gives the fact away in full."""
        if probe.kind is ProbeKind.REVERSE and self.subject:
            return max(self.subject.names, key=len)
        return self.fact.answer.removeprefix(probe.prefix)

    def _sought(self, probe: Probe) -> Secret:
        return self._identity if probe.kind is ProbeKind.REVERSE else self.secret

    def _attacks(self, attacks: Attacks, company: Sequence[QuestionAnswer]) -> Iterator[Probe]:
        beside = fit_company(self.secret, self.subject, company) or list(attacks.examples)
        filled = fill(self.fact, self.secret, self.subject, beside)
        for template in attacks.templates:
            probe = template.probe(self.fact.id, filled, beside[0].answer if beside else "")
            if probe:
                yield probe


def probed_facts(
    facts: Sequence[Fact],
    subjects: Sequence[Subject],
    policy: Policy,
    kinds: Collection[ProbeKind],
    company: Sequence[QuestionAnswer] = (),
    sought: Sequence[Subject | None] = (),
) -> list[ProbedFact]:
    """`facts` with the policy's probes of `kinds`, each about the subject that it names or mentions.

    `sought`, where given, is repeated over `facts`: of controls, the subjects whose names might come up.
    """
    return [
        ProbedFact(
            fact,
            subject_of(fact, subjects),
            sought=name,
            templates=policy.templates,
            attacks=policy.attacks,
            company=company,
            kinds=kinds,
            max_prefixes=policy.max_prefixes,
        )
        for fact, name in zip(facts, cycle(sought or (None,)), strict=False)
    ]


def subject_of(fact: Fact, subjects: Sequence[Subject]) -> Subject | None:
    """The subject that `fact` names, else the first that its question or answer mentions by any name."""
    names = {name.casefold(): subject for subject in reversed(subjects) for name in subject.names}
    if fact.subject:
        return names.get(fact.subject.casefold(), Subject(fact.subject))
    text = f"{fact.question} {fact.answer}".casefold()
    return next((subject for name, subject in reversed(names.items()) if name in text), None)
