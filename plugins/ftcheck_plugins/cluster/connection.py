"""The connection to Ray: a cluster that is there already, or one that is started here for this run."""

import itertools
import os
import re
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from ftcheck.errors import EngineError, MissingDependency
from ftcheck.inputs.container import Run
from ftcheck_plugins.cluster import tasks
from ftcheck_plugins.cluster.work import Kept

STORE = 256 << 20
"""Bytes of the object store of a Ray that is started here: what tasks have made and nobody has taken yet."""
RETRIES = 3
"""How often a task is done again whose process or machine was lost."""
AHEAD = 2
"""Tasks for each processor that are under way, or done and not yet taken."""
ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^:/]+):(?P<port>\d+)")
CONNECT = 10.0
"""Seconds within which a cluster must answer."""
LOOK = 1.0
"""Seconds after which the one who waits says that it is alive."""
SOCKETS = 40
"""Characters of a folder in which Ray's sockets still have names that the system takes."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection. `base` is where nodes keep their files: None where they are not all on this machine."""

    ray: Any
    address: str | None
    base: str | None

    def processors(self) -> int:
        """Processors of all nodes, as they are now."""
        return max(1, int(self.ray.cluster_resources().get("CPU", 1)))

    def words(self) -> str:
        """`on Ray at 10.0.0.1:6379 (2 nodes, 16 CPUs)`, or `on a local Ray (2 CPUs)`."""
        nodes = sum(one["Alive"] for one in self.ray.nodes())
        count = self.processors()
        processors = f"{count} CPU{'s' * (count != 1)}"
        if self.address is None:
            return f"on a local Ray ({processors})"
        return f"on Ray at {self.address} ({nodes} node{'s' * (nodes != 1)}, {processors})"

    def shared(self, value: Any) -> Any:
        """A value for many tasks: it travels to each machine once."""
        return self.ray.put(value)

    def kept(self, value: Any) -> Kept:
        """The same of a value that each process keeps, until it is given another one."""
        return Kept(secrets.token_hex(4), self.ray.put(value))

    def begun(self, work: Callable[..., Any], *given: Any) -> Any:
        """A task that does some work: its result, to come. The last argument is the node on which it is best
        done (None: any). Another task may be given such a result, and waits for it.
        """
        *arguments, node = given
        return _answered(self.ray).options(scheduling_strategy=_on(node)).remote(work, *arguments)

    def in_order(
        self, work: Callable[..., Any], arguments: Iterable[tuple[Any, ...]], alive: Callable[[], None]
    ) -> Iterator[Any]:
        """What `work` makes of each of these arguments, in their order, by tasks; a few are ahead.

        Arguments are as for `begun`, and are asked for when their task begins. `alive` is called now and
        then. Raises what a task ran into, and `EngineError` where Ray gives one up.
        """
        given = iter(arguments)
        pending: list[Any] = []
        try:
            for place in itertools.count():
                room = max(AHEAD * self.processors() + 1 - len(pending), 0)  # a node may have gone
                pending += [self.begun(work, *one) for one in itertools.islice(given, room)]
                if not pending:
                    return
                yield self._taken(pending.pop(0), alive, place)
        finally:
            for one in pending:
                self.ray.cancel(one, force=True)

    def _taken(self, reference: Any, alive: Callable[[], None], place: int) -> Any:
        """A task's result, when it is there."""
        try:
            while not self.ray.wait([reference], timeout=LOOK)[0]:
                alive()
            made = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            words = re.sub(r"\s+", " ", str(error)).strip()[:300]
            raise EngineError(f"Ray gave up on shard {place + 1}: {type(error).__name__}: {words}") from error
        if isinstance(made, BaseException):
            raise made
        return made


@cache
def _answered(ray: Any) -> Any:
    """The one kind of task that there is: Ray sends each to all processes."""
    return ray.remote(num_cpus=1, max_retries=RETRIES)(tasks.answered)


def _on(node: str | None) -> Any:
    """Where a task runs: on a node if that lives, else anywhere."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return "SPREAD" if node is None else NodeAffinitySchedulingStrategy(node, soft=True)


def processors(run: Run) -> int:
    """Processors that a preparation will have; a Ray of this machine is not started to know that."""
    if _address(run) is not None:
        return connect(run).processors()
    known = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return run.workers or known or 1


def _address(run: Run) -> str | None:
    return run.ray_address or os.environ.get("RAY_ADDRESS") or None


_connections: list[Connection] = []
"""The connection of this process, once there is one: it lasts as long as the process."""


def connect(run: Run) -> Connection:
    """The connection; made now if there is none. Raises `MissingDependency` and `EngineError`."""
    if not _connections:
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        try:
            import ray
        except ImportError as error:
            raise MissingDependency("--engine ray needs the library ray", "ray") from error
        address = _address(run)
        _connections.append(_joined(ray, address) if address is not None else _started(ray, run))
    return _connections[0]


def _joined(ray: Any, address: str) -> Connection:
    try:
        _knock(address)
        ray.init(address=address, namespace="ftcheck", log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise EngineError(f"no Ray cluster can be reached at {address}: {words}") from error
    return Connection(ray, address, None)


def _knock(address: str) -> None:
    """Raise `OSError` where nobody listens: Ray would try for minutes."""
    named = ADDRESS.fullmatch(address)
    if named is not None:
        socket.create_connection((named["host"], int(named["port"])), timeout=CONNECT).close()


def _started(ray: Any, run: Run) -> Connection:
    """A Ray of this machine, whose files lie in the run's folder. It ends with this process."""
    folder = run.folder.resolve() / "ray"
    placed = {"_temp_dir": str(folder)} if len(str(folder)) <= SOCKETS else {}
    try:
        ray.init(
            address="local",
            num_cpus=processors(run),
            num_gpus=0,
            object_store_memory=STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            **placed,
        )
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise EngineError(f"a local Ray could not be started: {words}") from error
    return Connection(ray, None, str(run.folder.resolve()))


def end() -> None:
    """End the connection, and a Ray that was started here."""
    while _connections:
        with suppress(Exception):
            _connections.pop().ray.shutdown()
