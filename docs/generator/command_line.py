"""Every command and every option, from the command line's own definitions."""

from collections.abc import Iterator

import click

from docs.generator import markdown as md
from ftcheck.cli import COMMANDS, app


def page() -> str:
    """The page of the command line."""
    listed = [
        (f"[`ftcheck {name}`](#ftcheck-{name})", md.line(words)) for name, (_, words) in COMMANDS.items()
    ]
    sections = [
        section
        for name in COMMANDS
        if (command := app.get_command(click.Context(app), name)) is not None
        for section in _sections(name, command, 2)
    ]
    return md.page(
        "Command line",
        "`ftcheck --help` and `ftcheck COMMAND --help` print the same. `ftcheck --version` prints the "
        "version. "
        'Shell completion: `eval "$(_FTCHECK_COMPLETE=bash_source ftcheck)"` (also `zsh_source`, '
        "`fish_source`). What a command ends with: [exit codes](exit-codes.md).",
        md.table(("Command", "What it does"), listed),
        *sections,
    )


def _sections(name: str, command: click.Command, level: int) -> Iterator[str]:
    yield _section(name, command, level)
    if isinstance(command, click.Group):
        for inner in command.commands:
            yield from _sections(f"{name} {inner}", command.commands[inner], level + 1)


def _section(name: str, command: click.Command, level: int) -> str:
    anchor = "ftcheck-" + name.replace(" ", "-")
    context = click.Context(command, info_name=f"ftcheck {name}")
    usage = " ".join([f"ftcheck {name}", *command.collect_usage_pieces(context)])
    options = [one for one in command.params if isinstance(one, click.Option)]
    parts = [
        f"{'#' * level} ftcheck {name} {{ #{anchor} }}",
        f"```\n{usage}\n```",
        md.paragraphs(command.help or ""),
        md.table(("Option", "Meaning"), [_option(anchor, one, context) for one in options]),
    ]
    return "\n\n".join(part for part in parts if part)


def _option(anchor: str, one: click.Option, context: click.Context) -> tuple[str, str]:
    words = [*one.opts, *one.secondary_opts]
    value = "" if one.is_flag or one.count else f" {one.make_metavar(context)}"
    spans = "".join(f'<span id="{anchor}{word}"></span>' for word in words)
    return spans + md.code(", ".join(words) + value), md.line(one.help or "") + _default(one, context)


def _default(one: click.Option, context: click.Context) -> str:
    """The default, where it is a value that somebody could have typed and the help shows it."""
    default = one.get_default(context)
    shown = one.show_default and isinstance(default, str | int | float) and not one.is_flag
    return f" Default: {md.code(str(default))}." if shown else ""
