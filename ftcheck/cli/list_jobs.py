"""`ftcheck list`: the jobs of policies, for people and for a matrix in CI."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftcheck.cli.options import POLICIES, all_rules_dirs, overrides, rules_dirs
from ftcheck.plurals import counted

if TYPE_CHECKING:
    from ftcheck.runner.load import Loaded


@dataclass(frozen=True, slots=True)
class Listed:
    """A job of a policy, as `ftcheck run POLICY --job JOB` takes it."""

    policy: str
    job: str
    name: str
    stage: str
    checks: int


@click.command(name="list", short_help="List the jobs of policies, also as a matrix for CI.")
@POLICIES
@click.option("--json", "as_json", is_flag=True, help='As {"include": [...]}, a matrix of GitHub Actions.')
@overrides
@rules_dirs
def list_jobs(
    policies: tuple[str, ...], as_json: bool, overrides: tuple[str, ...], rules_dirs: tuple[Path, ...]
) -> int:
    """List the jobs of each POLICY: a file, a folder or a glob.

    With --json each entry has `policy` and `job` for `ftcheck run POLICY --job JOB`, the policy's `name` and
    `stage`, and the number of `checks`. What is wrong with a policy goes to stderr; the others are listed,
    and the exit code is 2. Without any job it is 4.
    """
    from ftcheck.errors import FtcheckError
    from ftcheck.exit_codes import ExitCode, worst_of
    from ftcheck.runner.load import load
    from ftcheck.runner.policy_files import policy_files
    from ftcheck.runner.session import say

    found: list[Listed] = []
    codes = [ExitCode.OK]
    for file in policy_files(policies):
        try:
            found += _jobs(file, load(file, overrides, all_rules_dirs(rules_dirs)))
        except FtcheckError as error:
            say(error)
            codes.append(error.exit_code)
    click.echo(_matrix(found) if as_json else _text(found))
    return worst_of(codes if found else [*codes, ExitCode.NOTHING])


def _jobs(file: str, loaded: "Loaded") -> list[Listed]:
    policy = loaded.policy
    counts = {name: sum(check.job in (name, None) for check in loaded.checks) for name in policy.jobs}
    return [Listed(file, name, policy.name, policy.stage.value, counts[name]) for name in policy.jobs]


def _matrix(found: Sequence[Listed]) -> str:
    import json

    return json.dumps({"include": [asdict(one) for one in found]})


def _text(found: Sequence[Listed]) -> str:
    policies = len({one.policy for one in found})
    width = max((len(one.policy) for one in found), default=0)
    wide = max((len(one.job) for one in found), default=0)
    lines = [f"{one.policy:<{width}}  {one.job:<{wide}}  {counted(one.checks, 'check')}" for one in found]
    return "\n".join([*lines, f"{counted(len(found), 'job')} in {counted(policies, 'policy', 'policies')}"])
