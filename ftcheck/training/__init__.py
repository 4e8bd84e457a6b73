"""Around a training: the gate for scripts, the checks that run while it trains, and the monitor."""
