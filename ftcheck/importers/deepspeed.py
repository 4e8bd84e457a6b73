"""DeepSpeed: how the model is sharded. No job, but it is told apart from one, key by key."""

from ftcheck.importers.sheet import Sheet


def semantics(sheet: Sheet) -> None:
    """The table says it all: the trainer fills in what is 'auto'."""
    if sheet.get("gradient_clipping", "auto") == "auto":
        sheet.ignore("gradient_clipping", "as the trainer says")
