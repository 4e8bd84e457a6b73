"""What plugins are made of: hooks, the host that loads them, and what they offer."""
