"""Probes: prompts that try to bring an erased fact back."""

from __future__ import annotations

from expunge.auditing.probes.auditable import check_auditable
from expunge.auditing.probes.probe import Probe, ProbeKind, Reply
from expunge.auditing.probes.probed_fact import ProbedFact, probed_facts

__all__ = ["Probe", "ProbeKind", "ProbedFact", "Reply", "check_auditable", "probed_facts"]
