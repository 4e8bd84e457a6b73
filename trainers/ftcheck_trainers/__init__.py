"""The built-in trainers behind the gate."""
