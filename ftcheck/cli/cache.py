"""`ftcheck cache`."""

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ftcheck.cache import Entry

PRIVATE = "token ids of your rows, which can be decoded to text: only you can read them (mode 0700)"


@click.group(short_help="List or clear the rows that earlier runs prepared.")
def cache() -> None:
    """List or clear the prepared rows that are kept for later runs.

    FTCHECK_CACHE sets another folder, FTCHECK_CACHE_SIZE the space that they may take (default: 10 GiB).
    """


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(*, as_json: bool) -> None:
    """Show the cache folder, its entries, and the space that they may take."""
    from ftcheck.cache import sized, store

    found = store()
    entries = found.entries()
    total = sum(one.size for one in entries)
    if as_json:
        click.echo(_json(str(found.folder), entries, total, found.limit))
        return
    click.echo(f"folder    {found.folder}")
    click.echo(f"contents  {_count(len(entries))}, {sized(total)} of {sized(found.limit)}")
    if entries:
        click.echo(f"          {PRIVATE}")
    for one in entries:
        click.echo(f"  {_line(one)}")


@cache.command()
@click.option(
    "--older-than", metavar="AGE", help="Only entries that have not been used for this long: 12h, 7d."
)
def clear(older_than: str | None) -> None:
    """Remove the entries. What failed last time (--lf) is kept."""
    from ftcheck.cache import sized, store
    from ftcheck.durations import seconds
    from ftcheck.errors import UsageError

    age = seconds(older_than) if older_than is not None else None
    if older_than is not None and age is None:
        raise UsageError(f"--older-than '{older_than}' is not an age: write 12h or 7d")
    found = store()
    freed = found.clear(age)
    left = len(found.entries())
    click.echo(f"{found.folder}: {_count(freed.entries)} removed, {sized(freed.size)} freed, {left} left")


def _count(number: int) -> str:
    return f"{number} entr{'y' if number == 1 else 'ies'}"


def _line(one: "Entry") -> str:
    from ftcheck.cache import sized

    what = f"{one.job} {one.split}" if one.job is not None else "not readable"
    rows = f"{one.rows:,} rows  {one.tokens:,} tokens" if one.rows is not None else ""
    return (
        f"{one.name[:12]}  {what:<20}  {rows:<32}  {sized(one.size):>9}  used {_ago(time.time() - one.used)}"
    )


def _ago(age: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if age >= size:
            return f"{age / size:.0f} {unit} ago"
    return "just now"


def _json(place: str, entries: "tuple[Entry, ...]", total: int, limit: int) -> str:
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime

    listed = [
        {**asdict(one), "used": datetime.fromtimestamp(one.used, UTC).isoformat(timespec="seconds")}
        for one in entries
    ]
    told = {"folder": place, "mode": "0700", "entries": listed, "size": total, "limit": limit}
    return json.dumps(told, indent=2)
