"""A version's first run: does it compute finite numbers? Asked as two tokens of an ordinary step."""

from __future__ import annotations

from concurrent.futures import Future

from torch import Tensor

from expunge.errors import ExpungeError
from expunge.inference.task import Item, Task


class SoundnessCheck(Task):
    """Runs before anybody may use the version, so no use is counted for it. It also warms the version up.

    Attributes:
        result: whether the logits are finite; or the error that kept it from running.
    """

    needs_row = False
    is_counted = False

    def __init__(self, version: str, slot: int, token: int) -> None:
        super().__init__(version, slot, [token, token], None, self._deliver)
        self.result: Future[bool] = Future()
        self.result.set_running_or_notify_cancel()  # whoever waits may go away; the answer still comes

    @property
    def wanted(self) -> range:
        return range(1, 2)

    def take_prompt(self, logits: Tensor) -> None:
        """The logits after the last token, [1, vocabulary]."""
        self.result.set_result(bool(logits.isfinite().all()))

    def expire(self) -> None:
        raise AssertionError("a soundness check has no deadline")

    def _deliver(self, item: Item) -> None:
        if isinstance(item, ExpungeError) and not self.result.done():
            self.result.set_exception(item)
