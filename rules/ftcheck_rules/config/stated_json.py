"""A setting that is a mapping in the policy, or the path of a JSON file: DeepSpeed's, FSDP's."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftcheck import Change, Finding, Job
from ftcheck.inputs import bounded
from ftcheck.paths import near
from ftcheck.records import Location


@dataclass(frozen=True, slots=True)
class StatedJson:
    """The mapping that `training.<name>` is or names; its keys stand in the policy, or in a file."""

    job: Job
    name: str
    config: Mapping[str, Any]
    path: str | None = None
    text: str = ""

    def at(self, key: str) -> Location:
        """The place of `optimizer.params.lr` (say)."""
        if self.path is None:
            return self.job.at(f"training.{self.name}.{key}")
        position = 0
        for part in key.split("."):
            found = re.compile(rf'"{re.escape(part)}"\s*:').search(self.text, position)
            position = found.start() if found else position
        line = self.text.count("\n", 0, position) + 1
        return Location(path=self.path, line=line, column=position - self.text.rfind("\n", 0, position))

    def get(self, key: str) -> Any:
        """A value by its dotted key; None where it is not set."""
        found: Any = self.config
        for part in key.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def change(self, key: str, old: Any, new: Any) -> Change | None:
        """A proposed value; None for a key of a file, which `fix` does not edit."""
        stated = f"jobs.{self.job.name}.training.{self.name}.{key}"
        return None if self.path else Change(stated, old, new, safe=False)


def read(job: Job, name: str, library: str) -> StatedJson | Finding:
    """What `training.<name>` states; a finding where its file cannot be used. `library` is whose it is."""
    stated, at = job.training.extra.get(name), job.at(f"training.{name}")
    if isinstance(stated, Mapping):
        return StatedJson(job, name, stated)
    path = near(str(stated))
    try:
        text = bounded.read_text(str(stated))
        config = bounded.loads(text)
    except FileNotFoundError:
        return Finding(
            f"no such file: {path}",
            at=at,
            fix=f"set the path of {library}'s JSON file, relative to the policy",
        )
    except json.JSONDecodeError as error:
        place = Location(path=path, line=error.lineno, column=error.colno)
        return Finding(f"{path} is not valid JSON: {error.msg.lower()}", at=place, fix="fix the file")
    except (OSError, ValueError) as error:
        return Finding(f"{path} cannot be read: {bounded.told(error)}", at=at)
    if not isinstance(config, dict):
        return Finding(f"{path} must contain a JSON object", at=Location(path=path, line=1, column=1))
    return StatedJson(job, name, config, path, text)
