"""Rules about a finished run."""
