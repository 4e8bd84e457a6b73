"""The command line. Each command is imported when it is called: `--help` loads nothing heavy."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

import click

from ftcheck import distribution
from ftcheck.errors import FtcheckError
from ftcheck.exit_codes import ExitCode

COMMANDS = {
    "run": ("ftcheck.cli.run:run", "Check the jobs of a policy and write reports."),
    "check": ("ftcheck.cli.check:check", "Check a data file or a configuration, without a policy."),
    "plan": ("ftcheck.cli.plan:plan", "Plan lengths, packing, memory, time and cost; find better settings."),
    "train": ("ftcheck.cli.train:train", "Train a job, if its report opens the gate."),
    "monitor": ("ftcheck.cli.monitor:monitor", "Follow training runs, or show finished ones."),
    "lock": ("ftcheck.cli.lock:lock", "Lock tokenizers, templates and golden ids of a policy."),
    "gate": ("ftcheck.cli.gate:gate", "Ask only the gate: is a stored report still valid?"),
    "attest": ("ftcheck.cli.attest:attest", "State a report's result for auditors, and sign it."),
    "fix": ("ftcheck.cli.fix:fix", "Write the changes that failed checks propose into the policy."),
    "waive": (
        "ftcheck.cli.waive:waive",
        "Accept what a check finds now, for some days, with reason and owner.",
    ),
    "show": ("ftcheck.cli.show:show", "Show a row as the model sees it: in the loss, masked, cut off."),
    "export": (
        "ftcheck.cli.export:export",
        "Export a guard's configuration, or checked ids, for other programs.",
    ),
    "rules": ("ftcheck.cli.rules:rules", "List the available rules."),
    "explain": ("ftcheck.cli.rules:explain", "Explain what a rule checks, why, and its parameters."),
    "selftest": ("ftcheck.cli.rules:selftest", "Test that each rule finds the failure that it is for."),
    "policy": ("ftcheck.cli.policy:policy", "Validate a policy, or show it merged."),
    "schema": ("ftcheck.cli.policy:schema", "Print the JSON Schema of policies (or of reports)."),
    "init": (
        "ftcheck.cli.init:init",
        "Write a first policy: with sample jobs, for your data, or for a configuration.",
    ),
    "cache": ("ftcheck.cli.cache:cache", "List or clear the rows that earlier runs prepared."),
    "report": ("ftcheck.cli.report:report", "Convert a stored report to another format."),
}


class _Lazy(click.Group):
    """A group whose commands are imported on use; their help lines are in COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if close and not args[0].startswith("-"):
                raise click.UsageError(f"no command '{args[0]}'; did you mean '{close[0]}'?", ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"ftcheck {distribution.version()}")
        ctx.exit()


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 passed, 1 blocking findings, 2 usage or policy, 3 incomplete, 4 nothing checked, "
    "5 gate refused, 6 training failed, 130 interrupted.  "
    'Completion: eval "$(_FTCHECK_COMPLETE=bash_source ftcheck)" (zsh_source, fish_source).',
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Show the version and exit.",
)
def app() -> None:
    """ftcheck checks a fine-tuning job the night before it costs money.

    One YAML policy states what must hold for data, tokenizer, chat template, labels, lengths, packing and
    serving; `ftcheck run` checks it, and `ftcheck train` trains exactly what was checked, or does not start.
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line; user errors are one line each, never a traceback."""
    _quiet_libraries()
    raise SystemExit(run_command(argv))


QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "BITSANDBYTES_NOWELCOME": "1",
}
"""With these in the environment the libraries print errors only; whoever sets one of them is heard."""


def _quiet_libraries() -> None:
    """Keep off the screen what libraries tell programmers; `python -W default -m ftcheck` shows it."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        if logging.lastResort is not None:  # what prints the records of loggers that nobody has set up
            logging.lastResort.setLevel(logging.ERROR)


def run_command(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    try:
        code = app.main(
            args=list(argv) if argv is not None else None, prog_name="ftcheck", standalone_mode=False
        )
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        if not _others_tell(error):
            error.show()
        return ExitCode.USAGE
    except FtcheckError as error:
        from ftcheck.runner.session import say

        say(error)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return ExitCode.INCOMPLETE
    except ModuleNotFoundError as error:
        if not distribution.is_light():
            return _bug(error)
        whole = "pip uninstall ftcheck-policy && pip install ftcheck"
        click.echo(
            f"ftcheck-policy only validates policies (no {error.name} here); for this command: {whole}",
            err=True,
        )
        return ExitCode.INCOMPLETE
    except Exception as error:  # a bug of ours is never a traceback, and never "blocking findings"
        return _bug(error)
    return int(code or 0)


def _others_tell(error: click.ClickException) -> bool:
    """Whether this is not the first of several processes of `train`, which all read the same words."""
    from ftcheck import ranks

    ctx = getattr(error, "ctx", None)
    return ctx is not None and ctx.info_name == "train" and not ranks.is_main()


def _bug(error: Exception) -> int:
    from ftcheck.runner.crash_log import internal_error
    from ftcheck.runner.session import say

    failure = internal_error(error, "at the command line")
    say(failure)
    return failure.exit_code
