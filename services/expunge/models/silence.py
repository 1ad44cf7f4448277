"""Keeps third-party progress bars and notices off the terminal while a model is read."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers(*, stderr: bool = False) -> Iterator[None]:
    """Within the block transformers shows no progress bar and logs only errors; restored afterwards.

    Args:
        stderr: also drop what is printed to standard error, for code paths whose bars have no switch.
            Exceptions pass unharmed.
    """
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            if stderr:
                stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
