"""Beginnings of prompts: equal keys for equal beginnings, and a bounded memory of who was sent them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from expunge.inference.prefix_map import BLOCK_BYTES, HOLDERS, MAX_BLOCKS, PrefixMap, prefix_keys
from expunge.inference.request import GenerationRequest, Message, ScoreRequest

TEXTS = st.text(max_size=300)
KEYS = st.lists(st.integers(0, 20), max_size=6).map(tuple)


def asking(text: str, version: str = "v") -> GenerationRequest:
    return GenerationRequest("r", version, prompt=text)


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length


@given(TEXTS, TEXTS, TEXTS)
def test_prompts_share_a_key_for_each_block_of_their_common_beginning(
    start: str, left: str, right: str
) -> None:
    one, other = start + left, start + right
    raw, also = one.encode(), other.encode()
    same = next(
        (at for at, pair in enumerate(zip(raw, also, strict=False)) if pair[0] != pair[1]),
        min(len(raw), len(also)),
    )
    assert common(prefix_keys(asking(one)), prefix_keys(asking(other))) == same // BLOCK_BYTES


@given(st.text(min_size=BLOCK_BYTES, max_size=300))
def test_the_same_prompt_under_another_version_shares_nothing(text: str) -> None:
    assert not set(prefix_keys(asking(text))) & set(prefix_keys(asking(text, "w")))


def test_conversations_token_ids_and_scores_have_beginnings_too() -> None:
    system = Message("system", "You keep the archive of the harbour. " * 6)
    talks = [
        replace(GenerationRequest("r", "v"), messages=(system, Message("user", question)))
        for question in ("Who rows?", "Who sails?")
    ]
    tokens = [GenerationRequest("r", "v", prompt_tokens=(*range(64), last)) for last in (1, 2)]
    scores = [ScoreRequest("r", "v", "The tide. " * 30, end) for end in ("high", "low")]
    for one, other in (talks, tokens, scores):
        assert common(prefix_keys(one), prefix_keys(other)) >= 3


def test_a_long_prompt_has_no_more_keys_than_are_of_use() -> None:
    assert len(prefix_keys(asking("é" * 100_000))) == MAX_BLOCKS
    turns = tuple(Message("user", "tide " * 2000) for _ in range(50))
    assert len(prefix_keys(GenerationRequest("r", "v", messages=turns))) == MAX_BLOCKS


@given(st.lists(st.tuples(KEYS, st.sampled_from("abcdefg")), max_size=40), st.integers(0, 10))
def test_memory_is_bounded_and_the_last_holder_of_a_key_is_known(
    notes: list[tuple[tuple[int, ...], str]], max_entries: int
) -> None:
    sent = PrefixMap(max_entries)
    for keys, replica in notes:
        sent.note(keys, replica)
        assert len(sent) <= max_entries
        if len(set(keys)) <= max_entries and keys:
            assert sent.matches(keys)[replica] == len(keys)
            assert len(sent.matches(keys[:1])) <= HOLDERS


@given(st.lists(st.tuples(KEYS, st.sampled_from("abc")), max_size=20), KEYS)
def test_nobody_is_said_to_hold_what_they_were_not_sent(
    notes: list[tuple[tuple[int, ...], str]], asked: tuple[int, ...]
) -> None:
    sent = PrefixMap()
    for keys, replica in notes:
        sent.note(keys, replica)
    for name, length in sent.matches(asked).items():
        assert any(name == replica and asked[length - 1] in keys for keys, replica in notes)


@given(st.lists(st.tuples(KEYS, st.sampled_from("abc")), max_size=20))
def test_a_replica_that_is_gone_is_forgotten(notes: list[tuple[tuple[int, ...], str]]) -> None:
    sent = PrefixMap()
    for keys, replica in notes:
        sent.note(keys, replica)
    sent.keep({"a"})
    for keys, _ in notes:
        assert set(sent.matches(keys)) <= {"a"}


def test_what_was_used_least_recently_goes_first_and_its_longest_part_before_its_beginning() -> None:
    sent = PrefixMap(max_entries=4)
    sent.note((1, 2, 3), "a")
    sent.note((4,), "b")
    sent.note((5,), "b")
    assert sent.matches((1, 2, 3)) == {"a": 2}
    sent.note((1,), "a")
    sent.note((6, 7), "b")
    assert sent.matches((1, 2, 3)) == {"a": 1}
    assert sent.matches((4,)) == {}
