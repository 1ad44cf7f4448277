"""adapter_config.json is understood wholly or refused by the name of what is not."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge.errors import InvalidAdapter
from expunge.lora.config import AdapterConfig, parse_config

PLAIN = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}


def parse(**fields: object) -> AdapterConfig:
    return parse_config(json.dumps({**PLAIN, **fields}).encode())


def test_scale_is_alpha_over_rank() -> None:
    assert parse().scale_of("model.layers.0.self_attn.q_proj") == 2.0


def test_rank_stabilised_scale_is_alpha_over_root_of_rank() -> None:
    assert parse(use_rslora=True).scale_of("x.q_proj") == pytest.approx(16 / math.sqrt(8))


def test_patterns_change_rank_and_alpha_of_what_they_name() -> None:
    config = parse(rank_pattern={"layers.1.self_attn.q_proj": 4}, alpha_pattern={"v_proj": 64})
    assert config.rank_of("model.layers.1.self_attn.q_proj") == 4
    assert config.rank_of("model.layers.11.self_attn.q_proj") == 8
    assert config.scale_of("model.layers.1.self_attn.q_proj") == 4.0
    assert config.scale_of("model.layers.0.self_attn.v_proj") == 8.0
    assert config.scale_of("model.layers.0.self_attn.my_v_proj") == 2.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("bias", "all"),
        ("lora_bias", True),
        ("layer_replication", [[0, 2], [1, 2]]),
        ("fan_in_fan_out", True),
        ("megatron_config", {"a": 1}),
        ("trainable_token_indices", [1, 2]),
        ("target_parameters", ["experts.weight"]),
        ("alora_invocation_tokens", [1]),
        ("layers_pattern", ["blocks"]),
        ("exclude_modules", ["q_proj"]),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "olora"),
        ("peft_type", "ADALORA"),
        ("a_feature_of_next_year", True),
    ],
)
def test_unsupported_feature_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidAdapter) as refused:
        parse(**{field: value})
    assert field in refused.value.message
    assert any(field in violation.field for violation in refused.value.violations)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", 0),
        ("r", True),
        ("r", "8"),
        ("r", 2**40),
        ("lora_alpha", 0),
        ("lora_alpha", math.nan),
        ("lora_alpha", math.inf),
        ("lora_alpha", None),
        ("use_rslora", "yes"),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", [1]),
        ("rank_pattern", {"(a+)+": 3}),
        ("alpha_pattern", {"q_proj": -1}),
        ("target_modules", []),
        ("target_modules", None),
        ("target_modules", [3]),
        ("target_modules", ["../../etc/passwd"]),
        ("layers_to_transform", ["1"]),
        ("layers_to_transform", [-1]),
    ],
)
def test_malformed_field_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidAdapter, match=field):
        parse(**{field: value})


def test_every_problem_is_reported_together() -> None:
    with pytest.raises(InvalidAdapter) as refused:
        parse(use_dora=True, bias="all", r=-1)
    assert {violation.field for violation in refused.value.violations} == {"'use_dora'", "bias", "r"}


def test_fields_without_influence_are_ignored() -> None:
    noise = {"peft_version": "0.21", "lora_dropout": 0.1, "task_type": "CAUSAL_LM", "unsloth_fixed": True}
    assert parse(**noise, loftq_config={}, use_dora=False, revision=None) == parse()


def test_canonical_form_ignores_order_and_noise_but_not_meaning() -> None:
    plain = parse().canonical()
    assert parse(lora_dropout=0.3, target_modules=["v_proj", "q_proj"]).canonical() == plain
    assert parse(lora_alpha=16.0).canonical() == plain
    changed = [parse(r=4), parse(lora_alpha=17), parse(use_rslora=True), parse(rank_pattern={"q_proj": 4})]
    assert len({plain, *(config.canonical() for config in changed)}) == 5


def test_written_config_is_read_back() -> None:
    config = parse(
        use_rslora=True, rank_pattern={"q_proj": 4}, alpha_pattern={"q_proj": 1.5}, layers_to_transform=1
    )
    assert parse_config(config.to_peft()) == config


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.binary(max_size=100)
    | st.dictionaries(
        st.sampled_from([*PLAIN, "bias", "rank_pattern", "layers_to_transform"]), json_values
    ).map(lambda fields: json.dumps({**PLAIN, **fields}).encode())
)
def test_any_bytes_are_understood_or_refused(content: bytes) -> None:
    with contextlib.suppress(InvalidAdapter):
        parse_config(content)
