"""Must-fail and must-pass cases of the rules about lengths, truncation and packing."""
