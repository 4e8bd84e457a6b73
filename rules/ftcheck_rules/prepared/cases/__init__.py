"""Must-fail and must-pass cases of the rules on prepared rows."""
