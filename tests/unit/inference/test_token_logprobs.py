"""Log-probabilities are those of a plain softmax, whatever pieces the logits come in."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge.inference.codec import TextCodec
from expunge.inference.token_logprobs import PromptLogprobs, TokenLogprobs
from expunge.models.load import LoadedModel


@pytest.fixture
def codec(loaded: LoadedModel) -> TextCodec:
    return TextCodec(loaded.model, loaded.tokenizer)


def logits_of(tokens: int, vocabulary: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(2)) * 4).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_they_equal_a_plain_log_softmax(codec: TextCodec, count: int, dtype: torch.dtype) -> None:
    logits, tokens = logits_of(6, codec.vocabulary, dtype), [0, 5, 9, 300, 17, 42]
    expected = logits.double().log_softmax(-1)
    entries = TokenLogprobs(count, codec).of(logits, tokens)
    for row, (token, entry) in enumerate(zip(tokens, entries, strict=True)):
        assert entry.token_id == token
        assert entry.text == codec.token_text(token)
        assert entry.logprob == pytest.approx(float(expected[row, token]), abs=1e-4)
        assert len(entry.likeliest) == count
        torch.testing.assert_close(
            torch.tensor([logprob for _, _, logprob in entry.likeliest], dtype=torch.double),
            expected[row].topk(count).values,
            atol=1e-4,
            rtol=0,
        )
        assert all(text == codec.token_text(other) for other, text, _ in entry.likeliest)
    if count:
        assert [entry.likeliest[0][0] for entry in entries] == logits.float().numpy().argmax(-1).tolist()


def test_of_equals_lower_ids_come_first(codec: TextCodec) -> None:
    (entry,) = TokenLogprobs(3, codec).of(torch.tensor([[0.0, 2.0, 1.0, 2.0, 1.0]]), [0])
    assert [token for token, _, _ in entry.likeliest] == [1, 3, 2]


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_a_prompt_may_come_in_pieces(lengths: list[int]) -> None:
    prompt, teller = list(range(sum(lengths))), TokenLogprobs(2, _Numbers())
    logits, told = logits_of(len(prompt), 50), PromptLogprobs(teller, prompt)
    for piece in logits.split(lengths):
        assert told.hand_over() == ()
        told.take(piece)
    assert told.is_complete
    assert told.hand_over() == (teller.first(prompt[0]), *teller.of(logits[:-1], prompt[1:]))
    assert told.hand_over() == ()


class _Numbers(TextCodec):
    """Tokens that are written as their ids."""

    def __init__(self) -> None:
        pass

    def token_text(self, token: int) -> str:
        return str(token)


def test_the_text_of_a_token_is_what_it_adds_to_a_text(codec: TextCodec) -> None:
    text = "The dog does not mind<|im_end|>"
    assert "".join(codec.token_text(token) for token in codec.encode(text)) == text
