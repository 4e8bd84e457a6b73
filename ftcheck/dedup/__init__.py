"""Which rows say the same: fingerprints of texts, and MinHash for near-duplicates."""
