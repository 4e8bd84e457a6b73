"""Rules about a run while it trains."""
