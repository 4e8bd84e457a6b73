"""The documentation site: that it builds, is whole, and that what it shows is what happens."""
