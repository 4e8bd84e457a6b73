"""Files broken at random: commands make of them no traceback, no hang, and no open gate."""
