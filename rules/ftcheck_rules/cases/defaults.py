"""Must-fail and must-pass inputs of the rule on defaults."""

from typing import Any

from ftcheck.lock import today
from ftcheck.testing import job, lock
from ftcheck_rules.cases import Case


def _locked(**defaults: Any) -> dict[str, Any]:
    return {"job": job(), "lock": lock(defaults={**today(), **defaults})}


CASES = (
    Case("locked-defaults", "a default that is another one now", True, lambda: _locked(weight_decay=0.1)),
    Case("locked-defaults", "an argument that is gone", True, lambda: _locked(no_such_argument=1)),
    Case("locked-defaults", "the defaults of today", False, _locked),
)
