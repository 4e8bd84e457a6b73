"""Rules about the rows of data."""
