"""Rules on rows that another program prepared."""
