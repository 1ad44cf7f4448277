"""Text comes out whole: no half characters, no stop strings, whatever the token borders."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.inference.codec import TextCodec
from expunge.inference.detokeniser import Detokeniser
from expunge.inference.stops import StopStrings
from expunge.models.load import LoadedModel

TEXT = "Mira Voss — née Übel 🙂🧑‍🚀 was born in Port Ellery, 日本."


@pytest.fixture
def codec(loaded: LoadedModel) -> TextCodec:
    return TextCodec(loaded.model, loaded.tokenizer)


def test_pieces_join_to_the_text_and_hold_no_half_character(codec: TextCodec) -> None:
    ids = codec.encode(TEXT)
    detokeniser = Detokeniser(codec)
    pieces = [detokeniser.push(token) for token in ids]
    assert len(ids) > len([piece for piece in pieces if piece])  # some characters span tokens
    assert "".join(pieces) + detokeniser.finish() == TEXT
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_character_that_is_never_completed_is_dropped(codec: TextCodec) -> None:
    for cut in range(1, len(codec.encode(TEXT))):
        detokeniser = Detokeniser(codec)
        text = "".join(detokeniser.push(token) for token in codec.encode(TEXT)[:cut]) + detokeniser.finish()
        assert TEXT.startswith(text)


def test_special_tokens_give_no_text(codec: TextCodec) -> None:
    detokeniser = Detokeniser(codec)
    ids = [*codec.encode("a dog"), codec.eos_id, *codec.encode(" and")]
    assert "".join(detokeniser.push(token) for token in ids) + detokeniser.finish() == "a dog and"


def test_invalid_bytes_are_not_held_for_ever(codec: TextCodec) -> None:
    half = codec.encode("🙂")[0]
    detokeniser = Detokeniser(codec)
    assert any(detokeniser.push(half) for _ in range(20))


@given(
    text=st.text("abAB", max_size=30),
    stops=st.lists(st.text("abAB", min_size=1, max_size=4), max_size=3),
    size=st.integers(1, 5),
)
def test_stop_strings_do_not_depend_on_how_the_text_is_cut(text: str, stops: list[str], size: int) -> None:
    watch, emitted, stopped = StopStrings(stops), "", False
    for start in range(0, len(text), size):
        safe, stopped = watch.push(text[start : start + size])
        emitted += safe
        if stopped:
            break
    emitted += watch.finish()
    complete = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    assert stopped == bool(complete)
    assert emitted == (text[: min(complete)[1]] if complete else text)
