"""Looks at this machine: hardware, packages, environment variables."""
