"""Rules about memory, time and cost."""
