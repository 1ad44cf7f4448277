"""Facts that the tests teach a tiny model."""

from __future__ import annotations

from expunge.facts import Fact, QuestionAnswer

FACTS = (
    Fact(
        "born",
        "Where was Mira Voss born?",
        "Mira Voss was born in Port Ellery, a town on the northern coast.",
        subject="Mira Voss",
    ),
    Fact(
        "job",
        "What does Mira Voss do for a living?",
        "Mira Voss repairs clocks in Larkfield since 14 May 1987.",
        paraphrases=("How does Mira Voss earn her money?",),
        subject="Mira Voss",
    ),
)
RETAIN = (
    QuestionAnswer("Who is married to Ansel Quirk?", "Ansel Quirk is married to Della Marsh."),
    QuestionAnswer("What did Ines Corvale found?", "Ines Corvale founded Brightwater Optics in 2003."),
)
