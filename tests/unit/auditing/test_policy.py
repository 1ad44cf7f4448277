"""Policies: digest and file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expunge.auditing.policy import DEFAULT_POLICY, Policy
from expunge.errors import ConfigError


def test_the_digest_changes_with_every_field() -> None:
    changed = [
        replace(DEFAULT_POLICY, version=2),
        replace(DEFAULT_POLICY, full_leaks_allowed=1),
        replace(DEFAULT_POLICY, templates=("{question}",)),
    ]
    assert len({policy.digest for policy in (DEFAULT_POLICY, *changed)}) == 4
    assert Policy().digest == DEFAULT_POLICY.digest


def test_a_file_overrides_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("name: strict\nversion: 3\nretain_recall_loss: 0\n")
    assert Policy.from_yaml(path) == replace(DEFAULT_POLICY, name="strict", version=3, retain_recall_loss=0)


def test_every_bad_field_is_reported_together(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("name: 4\nleaks: 2\nretain_recall_loss: much\n")
    with pytest.raises(ConfigError) as caught:
        Policy.from_yaml(path)
    assert {violation.field for violation in caught.value.violations} == {
        "name",
        "leaks",
        "retain_recall_loss",
    }


def test_a_policy_without_controls_is_refused() -> None:
    with pytest.raises(ConfigError, match="controls_per_fact"):
        Policy(controls_per_fact=0)
