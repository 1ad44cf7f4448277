"""Packed rows give what each sequence alone would."""

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from expunge.facts import Fact
from expunge.unlearning.rows import head_logits, hidden_states, pack_rows
from expunge.unlearning.sequences import ChatEncoder, Sequence, secret_mask

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def _sequences(encoder: ChatEncoder) -> list[Sequence]:
    return [
        encoder.chat("Where was Mira Voss born?", "Mira Voss was born in Port Ellery."),
        encoder.chat("Where was Mira Voss born?", "She was born on an island."),
        encoder.chat("Who is Tobin Hale?", "Tobin Hale repairs clocks.", system=""),
        encoder.raw("The quick brown fox jumps over the lazy dog."),
    ]


@pytest.mark.parametrize("row_tokens", [512, 48])
def test_logits_of_packed_answers_equal_those_of_separate_passes(tiny_model: Tiny, row_tokens: int) -> None:
    model, tokenizer = tiny_model
    sequences = _sequences(ChatEncoder(tokenizer))
    rows = pack_rows(sequences, row_tokens)
    seen: set[int] = set()
    for row in rows:
        with torch.no_grad():
            logits = head_logits(model, hidden_states(model, row))
        for member in row.present:
            sequence = sequences[member]
            ids = torch.tensor([sequence.ids])
            with torch.no_grad():
                alone = model(input_ids=ids).logits[0, len(sequence.prompt) - 1 : -1]
            torch.testing.assert_close(logits[row.members == member], alone, atol=1e-4, rtol=1e-4)
            assert tuple(row.labels[row.members == member].tolist()) == sequence.answer
            seen.add(member)
    assert seen == set(range(len(sequences)))


def test_common_prefixes_are_stored_once(tiny_model: Tiny) -> None:
    sequences = _sequences(ChatEncoder(tiny_model[1]))
    (row,) = pack_rows(sequences[:2])
    assert len(row) < sum(len(sequence.ids) for sequence in sequences[:2]) - len(sequences[0].prompt) + 3


def test_secret_tokens_are_those_of_telling_words(tiny_model: Tiny) -> None:
    tokenizer = tiny_model[1]
    fact = Fact("f", "Where was Mira Voss born?", "Mira Voss was born in Port Ellery.", ("Port Ellery",))
    mask = secret_mask(tokenizer, fact)
    ids = tokenizer.encode(fact.answer, add_special_tokens=False)
    secret = "".join(
        tokenizer.decode([token]) for token, is_secret in zip(ids, mask, strict=True) if is_secret
    )
    assert secret.strip() == "Port Ellery"


def test_every_content_word_is_secret_beside_narrow_spans(tiny_model: Tiny) -> None:
    fact = Fact("f", "Where does she work?", "She repairs clocks by the harbour.", ("clocks",))
    assert _secret_text(tiny_model[1], fact) == ["repairs", "clocks", "harbour"]


def _secret_text(tokenizer: PreTrainedTokenizerBase, fact: Fact) -> list[str]:
    mask = secret_mask(tokenizer, fact)
    ids = tokenizer.encode(fact.answer, add_special_tokens=False)
    return "".join(
        tokenizer.decode([token]) for token, is_secret in zip(ids, mask, strict=True) if is_secret
    ).split()
