"""Reads rows that another program prepared: token ids, labels and masks as they will be fed."""
