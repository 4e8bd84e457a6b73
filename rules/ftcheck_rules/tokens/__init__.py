"""Rules about tokens and the vocabulary."""
