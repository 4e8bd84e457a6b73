"""Numbers as people write them."""

from typing import Any


def number(value: Any) -> str:
    """A number as people write it: `13,784`, `99.96`, `0.0002`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.2f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
