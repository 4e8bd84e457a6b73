"""What figures must show, worked out by hand before anything draws them."""

from typing import Any

TICKS = {
    # (low, high, about how many): the round numbers within
    (0, 155, 5): [0, 50, 100, 150],
    (0, 591, 5): [0, 200, 400],
    (0, 1, 5): [0, 0.2, 0.4, 0.6, 0.8, 1],
    (0, 14.56, 5): [0, 5, 10],
    (0.42, 3.1, 4): [1, 2, 3],
    (0, 0, 5): [0],
    (7, 7, 5): [7],
}

BINS: dict[str, Any] = {
    # counts of rows by length, 0 to 11 tokens, in at most 4 stretches: 12 lengths make stretches of 3
    "counts": [0, 2, 0, 0, 5, 1, 0, 0, 0, 0, 0, 4],
    "at most": 4,
    "text": "2 6 0 4",
    "unit": "rows per 3 tokens",
}

BAR: dict[str, Any] = {
    # 5.5 + 0.9 + 0.6 GiB on a card of 14 GiB, over 350 units: 25 units a GiB
    "parts": [5.5, 0.9, 0.6],
    "capacity": 14.0,
    "room": 350.0,
    "starts": [0.0, 137.5, 160.0],
    "widths": [137.5, 22.5, 15.0],
}

PLANTED = {
    # the sample policy with max_length 64 for its analyst: every row has 78 to 93 tokens
    "failed": ["analyst::percentile-seq-len", "analyst::truncation"],
    "open": ["mapper"],
    "shut": ["analyst"],
}
