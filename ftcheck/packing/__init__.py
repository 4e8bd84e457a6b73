"""Lengths of rows, and how they are cut, padded and packed into sequences."""
