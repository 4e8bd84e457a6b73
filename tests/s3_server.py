"""Moto's S3 server on the loopback interface, in a process of its own; the usual variables name it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ftcheck.inputs import remote_files

SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
VARIABLES = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def served() -> Iterator[str]:
    """The server's endpoint. Its variables are set meanwhile."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    lines = (line.strip() for line in process.stdout)
    endpoint = "http://127.0.0.1:" + next(line for line in lines if line.isdigit())
    before = dict(os.environ)
    os.environ.update(VARIABLES | {"AWS_ENDPOINT_URL": endpoint})
    remote_files.forget()
    try:
        yield endpoint
    finally:
        os.environ.clear()
        os.environ.update(before)
        remote_files.forget()
        process.communicate()


def put(folder: Path, bucket: str, prefix: str) -> None:
    """Put the files of a folder into a bucket, which is made."""
    import pyarrow.fs as pafs

    system = pafs.S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
        region=os.environ["AWS_REGION"],
        allow_bucket_creation=True,
    )
    system.create_dir(bucket)
    for file in sorted(one for one in folder.iterdir() if one.is_file()):
        with system.open_output_stream(f"{bucket}/{prefix}{file.name}") as stream:
            stream.write(file.read_bytes())
