"""Run the local Redshift as a process: ``python -m local.redshift --port 5439 --data .local/redshift``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

from .server import RedshiftServer


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m local.redshift", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="on loopback; 0 takes a free one")
    parser.add_argument("--data", type=Path, help="folder that keeps the databases; without it nothing is kept")
    parser.add_argument("--s3-endpoint", help="where COPY reads; without it the AWS environment says so")
    parser.add_argument("--user", default="polku")
    parser.add_argument("--database", default="polku")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    password = {"password": os.environ["REDSHIFT_PASSWORD"]} if os.environ.get("REDSHIFT_PASSWORD") else {}
    server = RedshiftServer(
        port=arguments.port,
        data=arguments.data,
        s3_endpoint=arguments.s3_endpoint,
        user=arguments.user,
        database=arguments.database,
        **password,
    )
    with server:
        print(f"ready {server.host}:{server.port} ca {server.ca_folder}", flush=True)
        while not ended.wait(3600):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
