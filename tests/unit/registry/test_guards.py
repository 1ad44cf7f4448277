from dataclasses import replace

import pytest

from expunge.erasures.suppression import GuardBook
from expunge.facts import ErasureKind, Fact, ForgetRequest, Subject
from expunge.registry.guards import guard_of
from expunge.unlearning.generic import GenericTexts
from expunge.unlearning.invented import InventedEntity, erasure_of, invented_entities


def request(*facts: Fact) -> ForgetRequest:
    return ForgetRequest("r", ErasureKind.PERSONAL_DATA, (Subject("Marla Quendrick"),), facts)


HOME = Fact("f", "Where does Marla Quendrick live?", "Marla's home is 14 Harrow Lane, Portwick.")


def test_an_answer_without_named_secrets_is_cut_into_what_the_question_does_not_hold() -> None:
    guard = guard_of("e", request(HOME))
    assert guard.secrets == ()
    assert guard.told == ("home", "14 Harrow Lane", "Portwick")


def test_named_secrets_stand_for_the_answer() -> None:
    guard = guard_of("e", request(replace(HOME, secrets=("14 Harrow Lane",))))
    assert guard.secrets == ("14 Harrow Lane",)
    assert guard.told == ()


def test_scored_text_is_guarded_also_where_nobody_named_the_secrets() -> None:
    book = GuardBook([guard_of("e", request(HOME))])
    assert book.match_score("She lives at 14 Harrow Lane,", " Portwick") == "e"
    assert book.match_score("She lives at 14 Main Street,", " Tarnholm") is None


def test_a_namesake_in_the_answer_does_not_guard_the_first_name() -> None:
    fact = Fact("f", "Where does she live?", "Marla lives in Portwick.")
    book = GuardBook([guard_of("e", request(fact))])
    assert book.match("Where does Marla Novak live?") is None


@pytest.mark.parametrize("named", [True, False], ids=["secrets named", "secrets not named"])
@pytest.mark.parametrize("entity", invented_entities(), ids=lambda entity: entity.subject.name)
def test_everyone_else_is_answered_for(entity: InventedEntity, named: bool) -> None:
    facts = tuple(fact if named else replace(fact, secrets=()) for fact in entity.facts)
    guarded = erasure_of((replace(entity, facts=facts),), ())
    book = GuardBook([guard_of("e", guarded)])
    generic = GenericTexts.load()
    others = [other for other in invented_entities() if other.subject != entity.subject]
    asked = [wording for other in others for fact in other.facts for wording in (fact.question, fact.answer)]
    asked += [text for item in generic.questions for text in (item.question, item.answer)]
    asked += generic.sentences
    assert [text for text in asked if book.match(text)] == []
    assert all(book.match(fact.question) for fact in facts)
