"""Python's cyclic garbage collector, paused: importing torch and transformers takes a quarter less time.

Modules live until the process ends: left out of later collections, they cost none of their time either. At
exit alone that is a second.
"""

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


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """The same for the first import of large libraries; what there is then is left out of collections."""
    with paused():
        yield
    gc.freeze()
