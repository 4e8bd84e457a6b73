"""A cluster of two nodes with a processor each, for all tests of this folder."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.s3_server import served

STORE = 100 << 20
NOTICED = {"health_check_period_ms": 1_000, "health_check_failure_threshold": 2}
"""That a node is gone is noticed after two seconds, not after fifteen."""


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """An S3 server; it is there before the cluster, whose nodes take their variables from this process."""
    pytest.importorskip("moto.server")
    with served() as found:
        yield found


@pytest.fixture(scope="session")
def cluster(endpoint: str) -> Iterator[Any]:
    """`ray.cluster_utils.Cluster`: its first node is the one that this process is connected to."""
    pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ftcheck_plugins.cluster import connection
    from ray.cluster_utils import Cluster

    given = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={**given, "_system_config": NOTICED})
    made.add_node(num_cpus=1, object_store_memory=STORE)
    yield made
    connection.end()
    made.shutdown()


@pytest.fixture
def on_ray(cluster: Any) -> dict[str, Any]:
    """The settings of a run on it."""
    while len(cluster.list_all_nodes()) < 2:
        cluster.add_node(num_cpus=1, object_store_memory=STORE)
    return {"engine": "ray", "ray_address": cluster.address}
