"""The attacks on weights that a policy can ask for, and the figures that each yields."""

from __future__ import annotations

from enum import StrEnum

from expunge.auditing.probes.probe import ProbeKind


class Attack(StrEnum):
    """What is done to a version's weights before it is asked."""

    INT8 = "int8"  # rounded to 8 bits
    INT4 = "int4"  # rounded to 4 bits
    MAGNITUDE = "magnitude"  # the smallest weights left out
    STRUCTURE = "structure"  # the least important heads and neurons left out
    RELEARNING = "relearning"  # half of the erased facts taught again; the other half is asked for


WHOLE, SPLITS = (
    ProbeKind.DIRECT,
    ProbeKind.PREFIX,
)  # of the many kinds of probes, what is asked after an attack


def figure_of(attack: str, kind: ProbeKind) -> str:
    """The name of the figure that says what probes of one kind bring out after an attack."""
    return f"{attack}_{kind.value}"


ATTACK_FIGURES = {figure_of(attack, kind): attack for attack in Attack for kind in (WHOLE, SPLITS)}
