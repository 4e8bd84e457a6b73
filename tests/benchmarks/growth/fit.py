"""The cost as a sum of a few terms, fitted so that each measured row counts by its relative error."""

from collections.abc import Sequence

import numpy as np


def fitted(terms: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """The factor of each term, none below 0; `terms` has one list a measurement."""
    measured = np.asarray(seconds, dtype=float)
    matrix = np.asarray(terms, dtype=float) / measured[:, None]
    factors, kept = np.zeros(matrix.shape[1]), list(range(matrix.shape[1]))
    while kept:
        found = np.linalg.lstsq(matrix[:, kept], np.ones(len(measured)), rcond=None)[0]
        if found.min() >= 0:
            factors[kept] = found
            break
        del kept[int(found.argmin())]
    return [float(one) for one in factors]


def told(factors: Sequence[float], terms: Sequence[float], measured: float) -> str:
    """What the formula says of one measurement: seconds, and times what was measured."""
    expected = sum(factor * term for factor, term in zip(factors, terms, strict=True))
    return f"{expected:9.1f}{expected / measured:7.2f}x"
