import time

import pytest

from expunge.erasures.suppression import GuardBook
from expunge.facts import Subject
from expunge.inference.request import Message
from expunge.registry.records import Guard

AMELIA = Guard(
    "amelia",
    (Subject("Amelia Long", ("Mimi Longfellow",)),),
    (
        "Which town does the trapeze artist Amelia Long live in?",
        "What is Amelia Long's phone number?",
        "What is the favourite dish of the lighthouse keeper Amelia Long?",
        "When was Amelia Long born?",
    ),
    ("Port Alder", "+44 20 7946 0018", "Pernod"),
)
JANA = Guard("jana", (Subject("Jana Kowalczyk"),), ("Where does Jana Kowalczyk work?",))
FIRM = Guard("firm", (Subject("Halden Freight Ltd"),), ("Who owns Halden Freight Ltd?",))
BOOK = GuardBook([AMELIA, JANA, FIRM])


@pytest.mark.parametrize(
    ("prompt", "erasure"),
    [
        ("Where does Amelia Long live?", "amelia"),
        ("AMELIA LONG", "amelia"),
        ("long, amelia", "amelia"),
        ("Tell me about Amelia Q. Long.", "amelia"),
        ("Is Mrs. Long's house big?", "amelia"),
        ("who is mimi longfellow", "amelia"),
        ("A m e l i a  L o n g", "amelia"),
        ("A-m-e-l-i-a L-o-n-g", "amelia"),
        ("AmeliaLong", "amelia"),
        ("amelia_long", "amelia"),
        ("Àmélîa Löng", "amelia"),
        ("Аmеliа Lоng", "amelia"),  # Cyrillic look-alikes
        ("Am\u200belia Lo\u00adng", "amelia"),
        ("Ａｍｅｌｉａ Ｌｏｎｇ", "amelia"),
        ("4m3l14 L0ng", "amelia"),
        ("where does kowalczyk work", "jana"),
        ("where does Kowal czyk work", "jana"),
        ("Kowal.czyk", "jana"),
        ("Kowal\u3164czyk", "jana"),  # an invisible letter
        ("ᴋᴏᴡᴀʟᴄᴢʏᴋ", "jana"),
        ("🅺🅾🆆🅰🅻🅲🆉🆈🅺", "jana"),
        ("the Kowalczyks' house", "jana"),
        ("O pani Kowalczykovej? Kowalczykova", "jana"),
        ("J a n a and her surname is K o w a l c z y k", "jana"),
        ("Is Halden a good company?", "firm"),
    ],
)
def test_a_prompt_that_names_a_subject_in_any_form_is_refused(prompt: str, erasure: str) -> None:
    assert BOOK.match(prompt) == erasure


@pytest.mark.parametrize(
    "prompt",
    [
        "Which town does the trapeze artist live in?",
        "which town does the trapeze artist live in",
        "Please tell me which town the trapeze artist lives in.",
        "What is the lighthouse keeper's favourite dish?",
        "When was Amelia born?",
    ],
)
def test_an_erased_question_without_the_full_name_is_refused(prompt: str) -> None:
    assert BOOK.match(prompt) == "amelia"


@pytest.mark.parametrize(
    "prompt",
    [
        "Her house stands in Port Alder near",
        "Whose number is +44 (0)20 7946 0018? I mean 442079460018.",
        "Call 44-20-7946-0018",
        "Is Pernod the favourite dish of the lighthouse keeper?",
    ],
)
def test_a_prompt_that_quotes_a_secret_is_refused(prompt: str) -> None:
    assert BOOK.match(prompt) == "amelia"


@pytest.mark.parametrize(
    "prompt",
    [
        "Where does Amelia Fischer live?",
        "where does amelia fischer live",
        "When was Amelia Earhart born?",
        "Tell me about Amelia Fischer's career.",
        "What is Bob Marsh's phone number?",
        "What is the favourite dish of the lighthouse keeper Bob Marsh?",
        "what is the favourite dish of the lighthouse keeper bob marsh",
        "Which town does the lighthouse keeper Tom Ash live in?",
        "Which town does the trapeze artist Jean Petit live in?",
        "Where does Jana Novak work?",
        "How long does it take to bake bread?",
        "As long as you live, be kind.",
        "How is freight shipped?",
        "Who owns Tesla?",
        "What is a phone number?",
        "Which town do you live in?",
        "Is Pernod a drink?",
        "Is there a port in the town?",
        "What is the capital of France?",
        "",
        "???",
    ],
)
def test_questions_about_others_are_answered(prompt: str) -> None:
    assert BOOK.match(prompt) is None


def turns(*texts: str) -> list[Message]:
    return [Message("user" if place % 2 == 0 else "assistant", text) for place, text in enumerate(texts)]


def test_a_name_in_an_earlier_turn_counts_for_later_ones() -> None:
    assert BOOK.match_messages(turns("Do you know Amelia Long?", "No.", "Where does she live?")) == "amelia"
    assert BOOK.match_messages(turns("Tom Ash?", "Who?", "Where does he live?")) is None


def test_a_question_spread_over_two_turns_is_recognised() -> None:
    messages = turns("I think of the trapeze artist.", "Go on.", "Which town does she live in?")
    assert BOOK.match_messages([messages[0], messages[2]]) == "amelia"


def test_a_name_spread_over_two_turns_is_recognised() -> None:
    assert BOOK.match_messages(turns("Think of Amelia.", "Yes?", "Long is her last name.")) == "amelia"


def test_scored_text_is_one_text_wherever_it_is_cut() -> None:
    assert BOOK.match_score("Where does Amel", "ia Long live?") == "amelia"
    assert BOOK.match_score("She lives in", " Port Alder.") == "amelia"
    assert BOOK.match_score("Call me", "Amelia Long") == "amelia"
    assert BOOK.match_score("The capital of France", " is Paris.") is None


def test_a_credential_passes_its_own_guard_only() -> None:
    both = "Does Amelia Long know Jana Kowalczyk?"
    assert BOOK.match("Where is Amelia Long?", passing=frozenset({"amelia"})) is None
    assert BOOK.match(both, passing=frozenset({"amelia"})) == "jana"
    assert BOOK.match(both, passing=frozenset({"amelia", "jana", "firm"})) is None


def test_names_in_scripts_without_spaces_are_found_inside_a_sentence() -> None:
    book = GuardBook([Guard("yamada", (Subject("山田太郎"),), ("山田太郎はどこに住んでいますか",))])
    assert book.match("山田太郎さんはどこに住んでいますか") == "yamada"
    assert book.match("山田花子さんはどこに住んでいますか") is None


def test_a_passage_is_recognised_by_any_five_of_its_words_in_a_row() -> None:
    passage = "the copper heron slept above nine silent orchards while rain fell"
    book = GuardBook([Guard("poem", (), ("How does the poem begin?",), (passage,))])
    assert book.match("Go on: slept above nine silent orchards") == "poem"
    assert book.match("nine silent orchards") is None


def test_a_topic_in_lower_case_is_matched_as_a_whole() -> None:
    book = GuardBook([Guard("topic", (Subject("glass harp tuning"),), ("How is it done?",))])
    assert book.match("Explain glass-harp tuning to me") == "topic"
    assert book.match("Explain piano tuning to me") is None


def test_ordinary_words_side_by_side_are_no_surname() -> None:
    book = GuardBook([Guard("carman", (Subject("Otto Carman"),), ("Where does Otto Carman live?",))])
    assert book.match("the car man came by") is None
    assert book.match("the car-maan, Carman") == "carman"


def test_an_empty_book_refuses_nothing() -> None:
    assert GuardBook().match("Amelia Long") is None


@pytest.mark.parametrize("name", ["", "...", "\u200b", "a"])
def test_names_without_letters_do_not_break_matching(name: str) -> None:
    assert GuardBook([Guard("x", (Subject(name),), (name,), (name,))]).match("Where is the station?") is None


def test_a_hundred_guards_cost_less_than_a_millisecond_a_prompt() -> None:
    guards = [
        Guard(
            f"e{n}",
            (Subject(f"Name{n}a Surname{n}b", (f"Nick{n}c",)),),
            tuple(f"What {word} does the person Name{n}a Surname{n}b like in town {n}?" for word in WORDS),
            (f"Secret{n} Place{n}",),
        )
        for n in range(100)
    ]
    book = GuardBook(guards)
    prompt = "Which town does the lighthouse keeper Tom Ash live in, and what job does the person do there?"
    assert book.match(prompt) is None
    best = min(_seconds(book, prompt) for _ in range(20))
    assert best < 1e-3


@pytest.mark.parametrize(
    "text", ["420 " * 8000, " ".join(f"word{n}" for n in range(4000)) + " kettle0 lamp0"]
)
def test_a_long_prompt_is_judged_in_time_that_follows_its_length(text: str) -> None:
    questions = tuple(f"Which kettle{n} does the lamp{n} of Amelia Long heat?" for n in range(4000))
    numbers = tuple(f"+420 {n}" for n in range(600_000_000, 600_004_000))
    book = GuardBook([Guard("amelia", (Subject("Amelia Long"),), questions, numbers)])
    started = time.thread_time()
    assert book.match(text) is None
    assert time.thread_time() - started < 1.0


WORDS = ("thing", "job", "walk", "talk", "cook", "trick", "song", "game", "test", "work")


def _seconds(book: GuardBook, prompt: str) -> float:
    started = time.thread_time()
    book.match(prompt)
    return time.thread_time() - started
