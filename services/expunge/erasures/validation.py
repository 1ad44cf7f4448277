"""From what an operator sent to a `ForgetRequest`: every problem is named before anything is stored.

The input is the plain mapping that the gateway makes of a CreateErasure message and that
`request_file.py` reads from a file:

    request_id: string, required       kind: personal_data | passage | topic (default personal_data)
    subjects: [{name, other_names}]    facts: [{id, question, answer, secrets, paraphrases, subject}]
    retain: [{question, answer}]       aliases: [string], must exist
    ground: string                     due_at: RFC 3339 date and time (default: the registry's)

No message repeats what was sent, since that is the very text to forget.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

from expunge.auditing.probes import check_auditable
from expunge.config import Settings
from expunge.erasures.fields import Fields
from expunge.errors import InvalidRequest, Violation
from expunge.facts import FUNCTION_WORDS, ErasureKind, Fact, ForgetRequest, QuestionAnswer, Subject, words

MAX_FACTS = 10_000
MAX_TEXT_CHARS = 4_000
MAX_SUBJECTS = 64
MAX_OTHER_NAMES = 32
MAX_NAME_CHARS = 200
MAX_REQUEST_ID_CHARS = 128
MAX_FACT_ID_CHARS = 64
MAX_SECRETS = 64
MAX_PARAPHRASES = 32
MAX_GROUND_CHARS = 1_000
MAX_DUE_DAYS = 92  # one month and the two more that GDPR art. 12(3) allows
MAX_VIOLATIONS = 100  # as many are listed; the rest is counted

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_TOP = ("request_id", "kind", "subjects", "facts", "retain", "aliases", "ground", "due_at")


def parse_forget_request(
    data: Mapping[str, object], known_aliases: Collection[str], now: float, settings: Settings
) -> tuple[ForgetRequest, tuple[str, ...]]:
    """The validated request and the aliases it covers: every one, since none may go on telling the facts.

    Args:
        data: see the module's docstring for its keys.
        known_aliases: every alias that exists; those that the request names must be among them.
        now: seconds since the epoch, to judge the due date against.

    Raises:
        InvalidRequest: `violations` lists every problem with its field, such as `facts[3].answer`
            (the first 100, and how many more there are).
    """
    fields = Fields(data, _TOP)
    request_id = fields.text("request_id", MAX_REQUEST_ID_CHARS)
    if not request_id.isprintable():
        fields.refuse("request_id", "holds unprintable characters; send a UUID, for instance")
    kind = _kind(fields)
    subjects = _subjects(fields, kind)
    request = ForgetRequest(
        request_id=request_id,
        kind=kind,
        subjects=subjects,
        facts=_facts(fields, subjects),
        retain=_retain(fields),
        ground=fields.text("ground", MAX_GROUND_CHARS, required=False),
        due_at=_due_at(fields, now, settings),
    )
    aliases = _aliases(fields, known_aliases)
    violations = list(fields.violations)
    if not violations:
        try:
            check_auditable(request)
        except InvalidRequest as error:
            violations += error.violations
    if violations:
        raise _invalid(violations)
    return request, aliases


def _invalid(violations: Sequence[Violation]) -> InvalidRequest:
    listed = list(violations[:MAX_VIOLATIONS])
    more = len(violations) - len(listed)
    if more:
        listed.append(Violation("", f"{more} more problems of this kind are not listed"))
    first = f"{violations[0].field}: {violations[0].message}"
    rest = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return InvalidRequest(f"the erasure request is not valid: {first}{rest}", violations=listed)


def _kind(fields: Fields) -> ErasureKind:
    text = fields.text("kind", 32, required=False) or ErasureKind.PERSONAL_DATA.value
    try:
        return ErasureKind(text.lower())
    except ValueError:
        fields.refuse("kind", f"must be one of {', '.join(kind.value for kind in ErasureKind)}")
        return ErasureKind.PERSONAL_DATA


def _subjects(fields: Fields, kind: ErasureKind) -> tuple[Subject, ...]:
    subjects = []
    for item in fields.items("subjects", MAX_SUBJECTS, ("name", "other_names")):
        name = _name(item, "name", item.text("name", MAX_NAME_CHARS))
        others = item.texts("other_names", MAX_OTHER_NAMES, MAX_NAME_CHARS)
        for index, other in enumerate(others):
            _name(item, f"other_names[{index}]", other)
        subjects.append(Subject(name, others))
    if not subjects and kind is ErasureKind.PERSONAL_DATA and not fields.refused("subjects"):
        fields.refuse("subjects", "personal data needs at least one subject; name the person")
    return tuple(subjects)


def _name(item: Fields, key: str, name: str) -> str:
    """A name that is a single letter or only function words would make the guard refuse nearly everything."""
    if name and (
        all(word.casefold() in FUNCTION_WORDS for word in words(name)) or sum(map(str.isalnum, name)) < 2
    ):
        item.refuse(key, "is too unspecific to guard; give the full name")
    return name


def _facts(fields: Fields, subjects: Sequence[Subject]) -> tuple[Fact, ...]:
    known = {name.casefold() for subject in subjects for name in subject.names}
    facts: list[Fact] = []
    ids: dict[str, int] = {}
    seen: dict[tuple[str, str], int] = {}
    keys = ("id", "question", "answer", "secrets", "paraphrases", "subject")
    items = fields.items("facts", MAX_FACTS, keys, at_least=1)
    for index, item in enumerate(items):
        fact = _fact(item, index, known)
        first = ids.setdefault(fact.id, index)
        if first != index:
            item.refuse("id", f"is also the id of facts[{first}]; ids are unique within an erasure")
        pair = (_folded(fact.question), _folded(fact.answer))
        first = seen.setdefault(pair, index)
        if first != index and all(pair):
            item.refuse("", f"repeats facts[{first}]; leave one of them out")
        facts.append(fact)
    return tuple(facts)


def _fact(item: Fields, index: int, known_names: Collection[str]) -> Fact:
    answer = item.text("answer", MAX_TEXT_CHARS)
    secrets = item.texts("secrets", MAX_SECRETS, MAX_TEXT_CHARS)
    for place, secret in enumerate(secrets):
        if answer and _folded(secret) not in _folded(answer):
            item.refuse(f"secrets[{place}]", "does not occur in the answer; a secret is a span of it")
    subject = item.text("subject", MAX_NAME_CHARS, required=False)
    if subject and subject.casefold() not in known_names:
        item.refuse("subject", "is not a name of any of the subjects; add it there or leave it out")
    return Fact(
        id=item.text("id", MAX_FACT_ID_CHARS, required=False) or f"fact-{index + 1}",
        question=item.text("question", MAX_TEXT_CHARS),
        answer=answer,
        secrets=secrets,
        paraphrases=item.texts("paraphrases", MAX_PARAPHRASES, MAX_TEXT_CHARS),
        subject=subject,
    )


def _retain(fields: Fields) -> tuple[QuestionAnswer, ...]:
    return tuple(
        QuestionAnswer(item.text("question", MAX_TEXT_CHARS), item.text("answer", MAX_TEXT_CHARS))
        for item in fields.items("retain", MAX_FACTS, ("question", "answer"))
    )


def _aliases(fields: Fields, known_aliases: Collection[str]) -> tuple[str, ...]:
    named = fields.texts("aliases", MAX_FACTS, MAX_NAME_CHARS)
    for index, alias in enumerate(named):
        if alias not in known_aliases:
            fields.refuse(f"aliases[{index}]", "no such alias; leave aliases empty, every alias is covered")
    return tuple(sorted(known_aliases))


def _due_at(fields: Fields, now: float, settings: Settings) -> float | None:
    text = fields.text("due_at", 64, required=False)
    if not text:
        return None
    try:
        if not _RFC_3339.fullmatch(text):
            raise ValueError("not RFC 3339")
        due = datetime.fromisoformat(text.upper()).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        fields.refuse(
            "due_at", "is not an RFC 3339 date and time with its offset, such as 2030-01-31T12:00:00Z"
        )
        return None
    latest_days = max(MAX_DUE_DAYS, settings.erasure_days)
    if due <= now:
        fields.refuse("due_at", "is in the past")
    elif due > now + latest_days * 86_400:
        fields.refuse("due_at", f"is more than {latest_days} days ahead")
    return due


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
