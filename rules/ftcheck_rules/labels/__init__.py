"""Rules about what the loss sees."""
