"""From rows to ids and labels, as TRL makes them: rendering, tokenising, truncating, keeping."""
