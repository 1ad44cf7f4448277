"""The project's own facts."""

from expunge.auditing.leaks import Secret
from expunge.unlearning.invented import erasure_of, invented_entities
from expunge.unlearning.neighbours import neighbour_questions


def test_six_entities_have_four_facts_each_with_their_secrets_in_the_answer() -> None:
    entities = invented_entities()
    assert [len(entity.facts) for entity in entities] == [4] * 6
    for entity in entities:
        for fact in entity.facts:
            assert fact.subject in fact.question
            assert len(fact.paraphrases) == 2
            assert all(secret in fact.answer for secret in fact.secrets)
            assert Secret.of(fact).spans


def test_an_erasure_of_an_entity_names_it_and_all_its_facts() -> None:
    first, second, *_ = invented_entities()
    request = erasure_of((first,), second.examples)
    assert request.subjects == (first.subject,)
    assert (len(request.facts), len(request.retain)) == (4, 4)


def test_neighbour_questions_name_no_invented_entity_and_copy_no_question() -> None:
    questions = neighbour_questions(96)
    assert len(set(questions)) == 96
    for entity in invented_entities():
        for name in entity.subject.names:
            assert not any(name in question for question in questions)
        for fact in entity.facts:
            template = fact.question.replace(entity.subject.name, "")
            assert not any(template.strip(" ?") in question for question in questions)
