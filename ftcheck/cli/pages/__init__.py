"""What the commands show on the terminal, a page each."""
