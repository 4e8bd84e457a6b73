"""The gate: what it decides from, what it says, and the ticket that it hands out."""
