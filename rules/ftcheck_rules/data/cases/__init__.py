"""Must-fail and must-pass cases of the rules about the rows of data."""
