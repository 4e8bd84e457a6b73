"""Singular and plural in messages."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """`1 row`, `1,204 rows`; `plural` for nouns that take more than an s (`1 entry`, `2 entries`)."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def agreeing(count: int, one: str, many: str) -> str:
    """The verb (or any word) that goes with so many: `agreeing(rows, "is", "are")`."""
    return one if count == 1 else many
