"""The connection to Ray where something is not as it should be: one line, and nothing left behind."""

import signal
import socket
import sys
import time
from pathlib import Path

import psutil
import pytest
from ftcheck_plugins.cluster import connection

from ftcheck.errors import EngineError, MissingDependency
from ftcheck.exit_codes import ExitCode
from ftcheck.inputs.container import Run
from tests.ray import kit


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has no connection yet."""
    monkeypatch.setattr(connection, "_connections", [])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.usefixtures("alone")
def test_without_ray_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(MissingDependency) as error:
        connection.connect(Run(folder=tmp_path, engine="ray"))

    assert (
        str(error.value) == "--engine ray needs the library ray; install it with: pip install 'ftcheck[ray]'"
    )


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("named", ["{address}", "ray://{address}"])
def test_an_address_at_which_nobody_listens_is_one_line(tmp_path: Path, named: str) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = named.format(address=f"127.0.0.1:{free.getsockname()[1]}")

        with pytest.raises(EngineError) as error:
            connection.connect(Run(folder=tmp_path, engine="ray", ray_address=address))

    assert str(error.value).startswith(f"no Ray cluster can be reached at {address}: ")
    assert "\n" not in str(error.value)


def test_control_c_ends_the_run_and_the_ray_that_it_started(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    kit.policy(tmp_path, kit.json_lines(tmp_path, 200_000, 2))
    # tests that were started in the background ignore SIGINT, and so would what they start
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = kit.start(tmp_path, "--no-cache", "--engine", "ray", "--workers", "2")
    signal.signal(signal.SIGINT, before)
    began = time.monotonic()
    started: list[psutil.Process] = []
    while not any("ray::answered" in _words(one) for one in started):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() - began < kit.WAITS
        started = psutil.Process(process.pid).children(recursive=True)
        time.sleep(0.05)

    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=kit.WAITS)[0]

    assert process.returncode == ExitCode.INTERRUPTED, said
    assert psutil.wait_procs(started, timeout=60)[1] == []


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
