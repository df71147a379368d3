"""Airflow's metadata database, as a process of its own: ``python -m local.metadata --data .local/metadata``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from local.redshift.postgres import Postgres

DATABASE = "airflow"


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m local.metadata", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder that keeps it; without it nothing is kept")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    postgres = Postgres(arguments.data)
    postgres.start()
    try:
        print(f"ready {postgres.dsn(DATABASE)}", flush=True)
        while not ended.wait(3600):
            pass
    finally:
        postgres.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
