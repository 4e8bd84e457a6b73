"""Work in parts, side by side: how it is waited for."""

import os
import signal
import threading
import time

from ftcheck.runner.parts import in_threads


def test_ctrl_c_tells_all_threads_and_waits_for_each() -> None:
    stop = threading.Event()
    done: list[int] = []

    def work(number: int) -> None:
        stop.wait(10)
        time.sleep(0.05 if number else 0.4)  # the one that is waited for first ends last
        done.append(number)

    def press() -> None:
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        work(2)

    in_threads([lambda: work(0), lambda: work(1), press], stop)

    assert stop.is_set()
    assert sorted(done) == [0, 1, 2]
