"""Nothing of transformers' words to programmers gets through, and all is as it was afterwards."""

import logging
import warnings

import pytest
from ftcheck_plugins.quiet_transformers import quiet_transformers


def test_warnings_are_kept_back_only_inside() -> None:
    logger = logging.getLogger("transformers")
    level = logger.level

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet_transformers():
            warnings.warn("within", stacklevel=1)
            assert not logger.isEnabledFor(logging.WARNING)
            assert logger.isEnabledFor(logging.ERROR)
        warnings.warn("after", stacklevel=1)

    assert [str(one.message) for one in heard] == ["after"]
    assert logger.level == level


def test_an_error_inside_leaves_the_level_as_it_was() -> None:
    logger = logging.getLogger("transformers")
    level = logger.level

    with pytest.raises(KeyError), quiet_transformers():
        raise KeyError("x")

    assert logger.level == level
