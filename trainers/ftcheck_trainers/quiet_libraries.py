"""Keeps the training libraries from printing over what ftcheck shows."""

import contextlib
import logging as logs
import sys
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """No word on what the libraries will deprecate in each other; no progress bars in a log file."""
    import datasets
    from transformers.utils import logging

    shown = not datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    datasets.disable_progress_bars()
    kernels = logs.getLogger("bitsandbytes.backends.cpu.ops")  # names an optional CPU kernel once a process
    level = kernels.level
    kernels.setLevel(logs.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        kernels.setLevel(level)
        for enable, before in zip(
            (datasets.enable_progress_bars, logging.enable_progress_bar), shown, strict=True
        ):
            if before:
                enable()
