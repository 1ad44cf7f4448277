"""What the load went through, judged once the erasure is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge.cli.demo.responses import About, Outcome, Response
from expunge.cli.demo.timeline import PROMISED_FLIP_S, Timeline


@dataclass(frozen=True)
class Suppression:
    """When questions about the person were to be refused, in epoch seconds."""

    accepted: float
    confirmed: float  # every gateway had the guard
    lifted: float  # the erasure was closed


class LoadAccount:
    """Sorts the responses of a load.

    A refusal is expected where it is about the person and falls in the time of suppression; anything else
    that was not answered failed.
    """

    def __init__(self, responses: Sequence[Response], suppression: Suppression, timeline: Timeline) -> None:
        self.responses = tuple(responses)
        self._suppression = suppression
        self._timeline = timeline

    @property
    def answered(self) -> list[Response]:
        return [item for item in self.responses if item.outcome is Outcome.ANSWERED]

    @property
    def refused(self) -> list[Response]:
        """Refusals that were to be expected."""
        return [item for item in self.responses if self._is_due_refusal(item)]

    @property
    def failed(self) -> list[Response]:
        """Everything else that was not answered."""
        return [
            item
            for item in self.responses
            if item.outcome is not Outcome.ANSWERED and not self._is_due_refusal(item)
        ]

    @property
    def mixed(self) -> list[Response]:
        """Responses of several versions, or of one that was not live when they were admitted."""
        return self._timeline.inconsistent(self.responses)

    @property
    def slipped(self) -> list[Response]:
        """Questions about the person that were answered although every gateway had confirmed the guard."""
        return [
            item
            for item in self.answered
            if item.about is About.PERSON
            and self._suppression.confirmed < item.sent < item.done < self._suppression.lifted
        ]

    def _is_due_refusal(self, item: Response) -> bool:
        return (
            item.outcome is Outcome.REFUSED
            and item.about is About.PERSON
            and item.done >= self._suppression.accepted
            and item.sent <= self._suppression.lifted + PROMISED_FLIP_S
        )
