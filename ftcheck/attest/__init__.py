"""Proof: a report as an in-toto statement, signed or not, and whether a signature holds."""
