"""Rules about lengths, truncation and packing."""
