"""The report: its record, its words, and what is kept out of it."""
