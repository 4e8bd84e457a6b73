"""The exit codes, with what `ftcheck/exit_codes.py` says of each."""

import ast
import inspect
from itertools import pairwise

from docs.generator import markdown as md
from ftcheck import exit_codes
from ftcheck.exit_codes import PRECEDENCE, ExitCode


def page() -> str:
    """The page of the exit codes."""
    meanings = _docs()
    rows = [
        (
            md.anchored(f"exit-{one.value}", md.code(str(one.value))),
            md.code(one.name),
            md.line(meanings[one.name]),
        )
        for one in ExitCode
    ]
    order = " > ".join(str(one.value) for one in PRECEDENCE)
    return md.page(
        "Exit codes",
        "Every command of ftcheck ends with one of these codes. Where several apply, the first of "
        f"{order} wins. `--exit-zero` turns code 1, and no other, into 0.",
        md.table(("Code", "Name", "Meaning"), rows),
    )


def _docs() -> dict[str, str]:
    """The docstring under each member of the enumeration."""
    [owner] = [
        one
        for one in ast.parse(inspect.getsource(exit_codes)).body
        if isinstance(one, ast.ClassDef) and one.name == ExitCode.__name__
    ]
    return {
        member.targets[0].id: doc.value.value
        for member, doc in pairwise(owner.body)
        if isinstance(member, ast.Assign)
        and isinstance(member.targets[0], ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
        and isinstance(doc.value.value, str)
    }
