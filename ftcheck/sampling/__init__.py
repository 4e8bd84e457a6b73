"""Rows drawn from all rows of a data set: which, and what numbers counted on them say of all."""
