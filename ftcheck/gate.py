"""The gate: a pure function from a report and the state of the world to a ticket or a refusal."""
