"""Memory of the preparation: does it grow with the rows?

    python -m tests.benchmarks.preparation_memory [ROWS ...]        default: 500,000 and 5,000,000

Writes rows (about 360 bytes each), prepares them in a process of its own as the check worker does, and prints
the peak of its anonymous memory and that of the processes that help it, together (Linux: `Pss_Anon`, so that
pages which a fork shares count once). What is mapped from files is not counted: the system takes it back.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.preparation import ours
from tests.benchmarks.second_run import MODEL, write

TRAINING = {"max_length": 512, "packing": True, "assistant_only_loss": True}


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory of a process and its children."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return 0
    own = next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("Pss_Anon"))
    return own + sum(anonymous(int(child)) for child in children)


def measure(rows: int) -> None:
    """Print one line of the table."""
    with tempfile.TemporaryDirectory(prefix="ftcheck-memory-") as folder:
        data = Path(folder) / "rows.jsonl"
        write(data, rows)
        command = [sys.executable, "-m", "tests.benchmarks.preparation_memory", "--alone", str(data)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, anonymous(process.pid))
                time.sleep(0.2)
            made = json.loads((process.stdout.read() if process.stdout else "").splitlines()[-1])
        print(
            f"{made['rows']:>12,}{data.stat().st_size / 1e6:>8,.0f}{made['seconds']:>10.1f}"
            f"{peak / 1e6:>10,.0f}",
            flush=True,
        )


def alone(data: Path) -> None:
    """Prepare in this process."""
    print(json.dumps(ours(MODEL, data, TRAINING)))


def main(arguments: list[str]) -> None:
    """Print the table."""
    if arguments[:1] == ["--alone"]:
        alone(Path(arguments[1]))
        return
    print(f"{'rows':>12}{'MB':>8}{'seconds':>10}{'peak MB':>10}   anonymous memory")
    for rows in [int(one) for one in arguments] or [500_000, 5_000_000]:
        measure(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
