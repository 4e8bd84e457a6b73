"""The report formats: what people and other programs see of a run."""
