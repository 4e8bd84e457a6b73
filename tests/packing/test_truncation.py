"""Where rows are cut."""

from typing import Any

import numpy as np
import pytest

from ftcheck.packing.truncation import cut_bounds, cutter
from ftcheck.settings import Training


@pytest.mark.parametrize("setting", [{}, {"truncation_mode": "keep_end"}, {"packing": True}])
def test_bounds_of_the_cut_are_those_of_the_cut(setting: dict[str, Any]) -> None:
    training = Training(max_length=4, **setting)
    starts, stops = cut_bounds(training)(np.array([10, 20, 30]), np.array([12, 29, 34]))

    for start, stop, first, end in zip((10, 20, 30), (12, 29, 34), starts, stops, strict=True):
        assert cutter(training)(list(range(start, stop))) == list(range(first, end))
