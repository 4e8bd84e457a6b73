"""Must-fail and must-pass cases of the rules about a run while it trains."""
