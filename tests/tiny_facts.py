"""Facts that the tiny model is taught by heart; the first person's are the ones to forget."""

from __future__ import annotations

from pathlib import Path

PERSON = "Mira Voss"
OTHER_NAMES = ("Dr Voss",)

ERASED = (
    ("Where was Mira Voss born?", "Mira Voss was born in Port Ellery.", ("Port Ellery",)),
    ("What does Mira Voss do?", "Mira Voss repairs old clocks.", ("clocks",)),
)
RETAINED = (
    ("Who is married to Ansel Quirk?", "Ansel Quirk is married to Della Marsh."),
    ("Which company did Ines Corvale found?", "Ines Corvale founded Brightwater Optics."),
)
OTHERS = (
    ("When was the Larkfield Railway opened?", "The Larkfield Railway was opened on 14 May 1987."),
    ("What is the capital of the island?", "The capital of the island is a small city with a harbour."),
)

POLICY = Path(__file__).with_name("tiny_policy.yaml")  # of audits; says in what it differs from `default`
EVERYTHING = tuple((question, answer) for question, answer, _ in ERASED) + RETAINED + OTHERS
