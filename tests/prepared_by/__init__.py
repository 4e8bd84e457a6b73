"""Folders that axolotl 0.19.0 and LLaMA-Factory 0.9.5 themselves made of 20 rows of the job `mapper`."""
