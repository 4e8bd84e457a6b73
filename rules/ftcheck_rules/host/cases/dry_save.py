"""Must-fail and must-pass inputs of dry-save."""

from collections.abc import Mapping
from typing import Any

from ftcheck.inputs.dry_save import SavedGeneration
from ftcheck.testing import Case, job, saved

VOID = SavedGeneration("model/generation_config.json", ("temperature",), ("pad_token_id",), "ValueError: no")


def _dry(training: Mapping[str, Any] | None = None, **found: Any) -> Mapping[str, Any]:
    return {"job": job(training=training or {}), "saved": saved(**found)}


CASES: tuple[Case, ...] = (
    Case("dry-save", "a save that is refused", True, lambda: _dry(generation=VOID)),
    Case("dry-save", "other ids when loaded again", True, lambda: _dry(differing=("spaces",))),
    Case("dry-save", "a tokenizer that does not load again", True, lambda: _dry(problem="no")),
    Case("dry-save", "comes back as it was", False, _dry),
)
