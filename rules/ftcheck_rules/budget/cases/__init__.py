"""Must-fail and must-pass cases of the rules about memory, time and cost."""
