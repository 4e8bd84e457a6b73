"""Writes the reference of the documentation site from the code, and the picture of a run."""
