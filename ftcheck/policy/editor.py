"""What a YAML language server needs to help with a policy: the schema in a file, and the line that names it.

The file lies beside the policy, so that it works without a network, knows the parameters of the plugins that
are installed, and goes into the repository with the policy: colleagues have it without installing ftcheck.
"""

import json
from pathlib import Path

from ftcheck.atomic import replace_file

FILE = Path(".ftcheck") / "policy.schema.json"
"""From the policy's folder."""
LINE = f"# yaml-language-server: $schema={FILE.as_posix()}\n"
"""The first line of a policy that names it."""


def write_schema(folder: Path) -> Path:
    """Write the schema, with the rules of the built-in plugins, for the policies of a folder; the file.

    It replaces what an earlier release wrote. Raises `UsageError` where it cannot be written.
    """
    from ftcheck.errors import UsageError
    from ftcheck.extension.plugin_host import make_host
    from ftcheck.policy import schema

    file = folder / FILE
    text = json.dumps(schema(make_host(), draft_07=True), separators=(",", ":"), ensure_ascii=False)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, f"{text}\n".encode())
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from error
    return file
