"""
A stand-in for AWS: moto's server (S3, Kinesis, Secrets Manager, CloudFormation) on loopback, with connections kept alive.

Its state lives in the memory of its process: two ``AwsServer`` in one process see the same buckets, so tests that share one use
names of their own.

``python -m local.aws --port 9190 --bucket polku-dev --stream server=2 --stream client=1``
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

from local.s3_conditions import CopyConditions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client

LOOPBACK = "127.0.0.1"
REGION = "eu-west-1"
CREATION_SECONDS = 30.0


class AwsServer:
    """
    moto's server in threads of this process; ready when entered.

    Args:
        port: 0 takes any free port.
        region: Where ``create`` and ``client`` work.

    ``env`` is what the unchanged product and the AWS CLI need to find it.
    """

    def __init__(self, *, port: int = 0, region: str = REGION) -> None:
        self.region = region
        self._wanted_port = port
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """What goes into AWS_ENDPOINT_URL."""
        if self._server is None:
            raise RuntimeError("aws is not running; enter it first")
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a client."""
        keys = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", "AWS_DEFAULT_REGION": self.region}
        return {"AWS_ENDPOINT_URL": self.url, **keys}

    def __enter__(self) -> AwsServer:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        os.environ.setdefault("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", str(64 << 20))

        class Handler(MotoRequestHandler):
            """Keeps connections alive, answers without waiting for an ACK, and logs nothing."""

            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 (werkzeug's name)
                pass

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        application = CopyConditions(DomainDispatcherApplication(create_backend_app))
        self._server = make_server(LOOPBACK, self._wanted_port, application, threaded=True, request_handler=Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="aws", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            thread.join()

    def client(self, service: str) -> Any:
        """Return a boto3 client of a service, e.g. "s3" or "kinesis"; the same one each time (they may be shared by threads)."""
        return _client(service, self.url, self.region)

    def create(self, *, bucket: str = "", streams: Mapping[str, int] | None = None) -> None:
        """Create a bucket and streams (name to number of shards) where they do not exist; returns once the streams are active."""
        create(self.url, self.region, bucket=bucket, streams=streams)


def create(url: str, region: str = REGION, *, bucket: str = "", streams: Mapping[str, int] | None = None, kinesis_url: str = "") -> None:
    """Create a bucket and streams at any endpoint, as ``AwsServer.create`` does; ``kinesis_url`` where Kinesis is served elsewhere."""
    if bucket:
        s3: S3Client = _client("s3", url, region)
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=bucket, **place)  # type: ignore[arg-type]
    if streams:
        kinesis: KinesisClient = _client("kinesis", kinesis_url or url, region)
        for name, shards in streams.items():
            with contextlib.suppress(kinesis.exceptions.ResourceInUseException):
                kinesis.create_stream(StreamName=name, ShardCount=shards)
        deadline = time.monotonic() + CREATION_SECONDS
        for name in streams:
            while kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamStatus"] != "ACTIVE":
                if time.monotonic() > deadline:
                    raise TimeoutError(f"stream {name} did not become active within {CREATION_SECONDS:.0f} s")
                time.sleep(0.05)


@functools.lru_cache(maxsize=64)
def _client(service: str, url: str, region: str) -> Any:
    import boto3

    session: Any = boto3.session.Session(aws_access_key_id="local", aws_secret_access_key="local", region_name=region)  # noqa: S106
    return session.client(service, endpoint_url=url)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stand-in as a process: print one line ``ready <url>``, end on SIGTERM or ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.aws", description="A stand-in for AWS on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--region", default=REGION)
    parser.add_argument("--bucket", default="", help="a bucket to create")
    parser.add_argument("--stream", action="append", default=[], metavar="NAME=SHARDS", help="a stream to create (repeatable)")
    chosen = parser.parse_args(argv)
    streams = {name: int(shards or 1) for name, _, shards in (text.partition("=") for text in chosen.stream)}
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with AwsServer(port=chosen.port, region=chosen.region) as server:
        server.create(bucket=chosen.bucket, streams=streams)
        print(f"ready {server.url}", flush=True)
        over.wait()


if __name__ == "__main__":
    main()
