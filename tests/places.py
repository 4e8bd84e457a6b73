"""Where things lie: this checkout, what it ships, and the shared data beside it (which may be absent)."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
POLICIES = CHECKOUT / "policies"
SAMPLES = POLICIES / "samples"
SHARED = CHECKOUT.parent / "shared"
DATA = SHARED / "data"
CASES = SHARED / "cases"
