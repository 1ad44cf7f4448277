import pytest

from expunge.erasures.suppression import GuardBook
from expunge.facts import Subject
from expunge.registry.records import Guard


def book(*, secrets: tuple[str, ...] = (), told: tuple[str, ...] = ()) -> GuardBook:
    questions = ("Where does Marla Quendrick live?", "What is Marla Quendrick allergic to?")
    return GuardBook([Guard("marla", (Subject("Marla Quendrick"),), questions, secrets, told)])


@pytest.mark.parametrize(
    ("secret", "prompt"),
    [
        ("14 Harrow Lane, Portwick", "Someone lives at 14 Harrow Lane,"),
        ("14 Harrow Lane, Portwick", "the house at 14 Harrow"),
        ("at 14 Green Lane, Portwick", "the house at 14 Green Lane"),
        ("Ostrand Port Authority", "She works for the Ostrand Port"),
        ("the Copper Heron slept above nine silent orchards", "the Copper Heron"),
        ("unripe plum skins", "Is she allergic to unripe plum"),
    ],
)
def test_the_beginning_of_a_secret_is_recognised(secret: str, prompt: str) -> None:
    assert book(secrets=(secret,)).match(prompt) == "marla"


@pytest.mark.parametrize(
    ("secret", "prompt"),
    [
        ("12 May 1980 in Portwick", "What happened on 12 May?"),
        ("New York, Harrow Lane", "Is New York large?"),
        ("in the red brick house in Portwick", "Who builds a red brick house?"),
        ("unripe plum skins", "Are unripe plum stones hard?"),
        ("14 Harrow Lane, Portwick", "Are there 14 lanes?"),
        ("Sie wohnt in der Harrowgasse", "Sie wohnt in einem Haus."),
    ],
)
def test_an_ordinary_beginning_of_a_secret_is_answered(secret: str, prompt: str) -> None:
    assert book(secrets=(secret,)).match(prompt) is None


@pytest.mark.parametrize(
    ("told", "prompt"),
    [
        ("14 Harrow Lane, Portwick", "Her house is 14 Harrow Lane,"),
        ("lives on Harrow Lane", "the end of Harrow Lane"),
        ("call +44 20 7946 0018", "Whose is 442079460018?"),
        ("0442079460018", "Dial 0442 0794 60018"),
        ("jo@harbour.example", "Write to jo@harbour.example"),
        ("employed at Tilbury Hospital", "Who works at Tilbury Hospital?"),
        ("cetirizine", "Is she allergic to cetirizine?"),
        ("unripe plum skins", "Is she allergic to unripe plum skins?"),
        ("شارع النخيل الكبير", "في شارع النخيل الكبير"),
    ],
)
def test_what_an_answer_tells_is_recognised_without_named_secrets(told: str, prompt: str) -> None:
    assert book(told=(told,)).match(prompt) == "marla"


@pytest.mark.parametrize(
    ("told", "prompt"),
    [
        ("12 May 1980", "What happened on 12 May 1980?"),
        ("New York", "How large is New York?"),
        ("London", "Who is allergic to London?"),
        ("300,000 crowns", "Are there 300,000 crowns?"),
        ("severe allergy", "How is a severe allergy treated?"),
        ("unripe plum skins", "How are unripe plum skins peeled?"),
        ("cetirizine", "What is cetirizine made of?"),
        ("lives happily", "Who lives happily?"),
        ("Sein Hund mag Katzen", "Sein Hund ist groß."),
        ("в городе Портвик", "Что нового в городе?"),
        ("شارع النخيل الكبير", "أين شارع النخيل؟"),
        ("...", "..."),
    ],
)
def test_ordinary_words_and_dates_of_an_answer_are_answered(told: str, prompt: str) -> None:
    assert book(told=(told,)).match(prompt) is None
