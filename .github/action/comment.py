"""Step `comment`: one comment on the pull request, written once and updated by each later run.

It never fails the job. A token that may not write (a fork's, Dependabot's) is told in a notice.
"""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from runner import given, identity, tell

MOST = 65_536
"""Characters of a comment that GitHub takes."""
PER_PAGE = 100
AUTHOR = "github-actions[bot]"
"""Who writes with a workflow's token. A marker in somebody else's comment is only a copy of it."""
SECONDS = 30


def main() -> None:
    """Create the comment, or update the one that an earlier run of this use of the action created."""
    number = _pull_request()
    if number is None:
        tell("notice", "no comment: this run is not about a pull request")
        return
    marker = f"<!-- ftcheck-action:{identity()} -->"
    try:
        _write(number, marker, _body(marker))
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):
            tell(
                "notice",
                f"no comment: the token may not comment (HTTP {error.code}). It needs the permission"
                " pull-requests: write, which runs for forks and for Dependabot do not get",
            )
        else:
            tell("warning", f"no comment: the API of GitHub answered HTTP {error.code}")
    except (OSError, ValueError) as error:
        tell("warning", f"no comment: the API of GitHub could not be reached: {error}")


def _pull_request() -> int | None:
    with open(os.environ["GITHUB_EVENT_PATH"], encoding="utf-8") as file:
        number = json.load(file).get("pull_request", {}).get("number")
    return number if isinstance(number, int) else None


def _body(marker: str) -> str:
    """The marker, the Markdown report as far as it fits, and where the rest is."""
    run = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}/actions/runs"
    about = f"[All reports of this run]({run}/{os.environ['GITHUB_RUN_ID']})"
    summary = Path(given("REPORTS"), "summary.md")
    text = summary.read_text(encoding="utf-8") if given("REPORTS") and summary.is_file() else ""
    text = text.strip() or "## ftcheck wrote no report: see the log of the run"
    room = MOST - len(marker) - len(about) - 200
    return f"{marker}\n{_fitted(text, room)}\n\n{about}\n"


def _fitted(text: str, room: int) -> str:
    """As many sections of a report as there is room for; where the first is too long, its lines."""
    if len(text) <= room:
        return text
    kept = text[:room]
    end = kept.rfind("\n### ")
    kept = kept[: end if end > 0 else kept.rfind("\n")]
    return f"{kept.rstrip()}\n\nThe rest does not fit into a comment."


def _write(number: int, marker: str, body: str) -> None:
    repository = f"/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
    own = _own(f"{repository}/{number}/comments", marker)
    if own is None:
        _ask("POST", f"{repository}/{number}/comments", {"body": body})
    else:
        _ask("PATCH", f"{repository}/comments/{own}", {"body": body})


def _own(comments: str, marker: str) -> int | None:
    """The number of the comment that an earlier run wrote. Pages are asked for until one is not full."""
    page = 1
    while True:
        listed = _ask("GET", f"{comments}?per_page={PER_PAGE}&page={page}")
        for one in listed:
            if one["user"]["login"] == AUTHOR and one["body"].startswith(marker):
                return int(one["id"])
        if len(listed) < PER_PAGE:
            return None
        page += 1


def _ask(method: str, path: str, sent: dict[str, str] | None = None) -> Any:  # noqa: ANN401
    """What the API answers. Raises `OSError` (`HTTPError` is one) and `ValueError`."""
    request = urllib.request.Request(
        os.environ["GITHUB_API_URL"] + path,
        method=method,
        data=None if sent is None else json.dumps(sent).encode(),
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Content-Type": "application/json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)


main()
