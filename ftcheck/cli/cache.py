"""`ftcheck cache`."""

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ftcheck.cache import Entry, Store

PRIVATE = "token ids of your rows, which can be decoded to text: only you can read them (mode 0700)"
SHARED = "token ids of rows, which can be decoded to text: the group of the folder can read them"


@click.group(short_help="List or clear the rows that earlier runs prepared.")
def cache() -> None:
    """List or clear the prepared rows that are kept for later runs.

    FTCHECK_CACHE sets another folder, FTCHECK_CACHE_SIZE the space that yours may take (default: 10 GiB), and
    FTCHECK_CACHE_TRUST the other users whose entries are used in a folder that is shared (ci,alice).
    """


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def info(*, as_json: bool) -> None:
    """Show the cache folder, its entries, and the space that they may take."""
    from ftcheck.cache import sized, store, user_name

    found = store()
    entries = found.entries()
    total = sum(one.size for one in entries)
    if as_json:
        click.echo(_json(found, entries, total))
        return
    click.echo(f"folder    {found.folder}")
    click.echo(f"contents  {_count(len(entries))}, {sized(total)} of {sized(found.limit)}")
    if found.shared:
        names = ", ".join(user_name(one) for one in sorted(found.trusted or ())) or "nobody"
        click.echo(f"shared    entries of other users that are used: {names} (FTCHECK_CACHE_TRUST)")
    if entries:
        click.echo(f"          {SHARED if found.shared else PRIVATE}")
    for one in entries:
        click.echo(f"  {_line(one)}{_whose(one, found)}")


@cache.command()
@click.option(
    "--older-than", metavar="AGE", help="Only entries that have not been used for this long: 12h, 7d."
)
def clear(older_than: str | None) -> None:
    """Remove your entries. What failed last time (--lf) is kept, and so are other users' entries."""
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


def _whose(one: "Entry", store: "Store") -> str:
    """Of a shared cache whose the entry is, and whether it is used."""
    from ftcheck.cache import user_name

    if not store.shared:
        return ""
    return f"  {user_name(one.owner)}{'' if store.uses(one.owner) else ' (not used)'}"


def _ago(age: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if age >= size:
            return f"{age / size:.0f} {unit} ago"
    return "just now"


def _json(store: "Store", entries: "tuple[Entry, ...]", total: int) -> str:
    import json
    from dataclasses import asdict
    from datetime import UTC, datetime

    listed = [
        {
            **asdict(one),
            "used": datetime.fromtimestamp(one.used, UTC).isoformat(timespec="seconds"),
            "is_used": store.uses(one.owner),
        }
        for one in entries
    ]
    told = {
        "folder": str(store.folder),
        "mode": "shared" if store.shared else "0700",
        "trusted": sorted(store.trusted or ()),
        "entries": listed,
        "size": total,
        "limit": store.limit,
    }
    return json.dumps(told, indent=2)
