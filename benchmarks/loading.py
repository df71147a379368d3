"""
What bench_load and bench_growth share: local servers, rows staged by the product's transform, and one load of them in two ways.

``Warehouse.product`` runs the files of include/sql/load as LoadOperator does: rendered, in order, in one transaction over
redshift_connector. ``Warehouse.by_hand`` runs what one would write without Polku's promises: see ``BY_HAND``.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "plugins"), str(Path(__file__).resolve().parent)]

import bench_transform  # noqa: E402 - found by the line above

from local.aws import AwsServer  # noqa: E402
from local.redshift import RedshiftServer  # noqa: E402
from polku import loads, names, sql, transform  # noqa: E402
from polku.batches import LAYOUT, Batch, Manifest, Part, RawObject, Receipt, StagedObject  # noqa: E402
from polku.records import BLOCK_BYTES, Block, pack  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKET = "polku-bench"
ROLE = "arn:aws:iam::000000000000:role/polku-bench"
PRODUCT, HAND = "polku_bench", "polku_hand"
TABLES = ("server", "duplicate", "user_name", "log", "batch", "rejected")
COPIES = 100
"""Of so many events one arrives twice in its batch."""

COLUMNS = """message_id, received_at, "timestamp", original_timestamp, sent_at, type, event, name, user_id, anonymous_id, user_name,
    previous_id, group_id, properties, traits, context, integrations, extra, fingerprint, batch_id, position, repairs"""

BY_HAND = (
    "create temp table by_hand (like {schema}.{table})",
    "copy by_hand ({columns}) from '{manifest}' iam_role '{role}' manifest delimiter '\\001' zstd timeformat 'auto' compupdate off",
    """insert into {schema}.{table} ({columns})
select {of_s}
from (
    select *, row_number() over (partition by message_id order by received_at, position) as copy_number from by_hand
) as s
left join {schema}.{table} as t
    on s.message_id = t.message_id and t.received_at between '{window_start}' and '{window_end}'
where s.copy_number = 1 and t.message_id is null""",
)
"""
A temporary table, COPY of the same manifest, and one insert of the first copy of each message_id that the target does not hold.

Nothing else: no lock, no registry of names, no log, no books, losing copies are thrown away, and loading a batch twice or out
of order does not give the same tables.
"""


class Warehouse:
    """
    A migrated schema and one for the work by hand, on servers of their own.

    Args:
        aws: The bucket's server.
        redshift: The database's server.
    """

    def __init__(self, aws: AwsServer, redshift: RedshiftServer) -> None:
        import jinja2

        self.s3 = aws.client("s3")
        self._redshift = redshift
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(sql.folder()),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701 - SQL
        )
        self._loads = 0
        self.admin = redshift._postgres.connect(redshift.database)  # noqa: SLF001 - PostgreSQL beneath, which Redshift does not show
        for schema in (PRODUCT, HAND):
            with self.connection() as connection, connection.cursor() as cursor:
                for file in sql.names("migrate"):
                    cursor.execute(self.templates.get_template(file).render(schema=schema))
                connection.commit()
            for table in TABLES:  # vacuumed by ``empty``, not in the midst of a load
                self.admin.execute(f"alter table {schema}.{table} set (autovacuum_enabled = off)")

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """Open a session, as each load has one of its own."""
        import redshift_connector

        server = self._redshift
        connection = redshift_connector.connect(
            host=server.host, port=server.port, database=server.database, user=server.user, password=server.password, ssl=False
        )
        try:
            yield connection
        finally:
            connection.close()

    def empty(self, *tables: str) -> None:
        """Empty these tables of both schemas, and leave nothing for autovacuum to do meanwhile."""
        for schema in (PRODUCT, HAND):
            self.admin.execute("truncate " + ", ".join(f"{schema}.{table}" for table in tables))
            for table in tables:
                self.admin.execute(f"vacuum analyze {schema}.{table}")

    def settle(self) -> None:
        """Write out what PostgreSQL still holds back, so that no load pays for what came before it."""
        self.admin.execute("checkpoint")

    def stage(self, events: int, *, minute: int = 0) -> loads.Ready:
        """Put the events of one batch into S3 as transform stages them; of every ``COPIES`` events one comes twice."""
        start = bench_transform.START
        batch = Batch.of("server", start.replace(minute=start.minute + minute))
        block = Block("server@1795430000/shardId-000000000000", [], [], [])
        raw = io.BytesIO()
        size = number = 0
        for at, (arrival, record) in enumerate(bench_transform.records("envelope", events - events // COPIES)):
            for _ in range(2 if at % (COPIES - 1) == COPIES - 2 else 1):
                block.sequences.append(str(49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898 + number * 1317))
                block.arrivals.append(arrival + minute * 60_000)
                block.data.append(record)
                size, number = size + len(record), number + 1
            if size > BLOCK_BYTES:
                raw.write(pack(block))
                block, size = Block(block.shard, [], [], []), 0
        raw.write(pack(block))
        length = raw.tell()
        raw.seek(0)
        staged = _Staged(self.s3, f"staged/{batch.name}-{events}")
        rules = transform.Rules(source="server", batch_id=batch.id, translate=True, shared=False)
        empty = RawObject(key=f"raw/{batch.name}", size=length, records=number, first_arrival=0, last_arrival=0)
        tally = transform.transform([(empty, raw)], rules, lambda users: {user: names.generated(user) for user in users}, staged)
        assert tally.staged == tally.received == number, tally
        part = Part(
            name="shards-0",
            objects=(
                RawObject(key=empty.key, size=length, records=number, first_arrival=tally.first_arrival, last_arrival=tally.last_arrival),
            ),
        )
        receipt = Receipt(
            batch=batch.id, part=part.name, layout=LAYOUT, generation=1, staged=tuple(staged.objects), quarantine=(), tally=tally
        )
        return loads.Ready(batch=batch, manifest=Manifest(batch=batch.id, parts=(part,)), receipts=(receipt,))

    def describe(self, ready: loads.Ready) -> loads.Load:
        """Write the COPY manifest and return the values of a load."""
        self._loads += 1
        key = f"load/server/{ready.batch.name}-{self._loads}.manifest"
        entries = [{"url": f"s3://{BUCKET}/{o.key}", "mandatory": True, "meta": {"content_length": o.size}} for o in ready.staged]
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps({"entries": entries}).encode())
        return loads.describe(
            [ready], name=f"load-{self._loads}", manifest=f"s3://{BUCKET}/{key}", iam_role=ROLE, dedup_days=7, error_share=0.5
        )

    def product(self, ready: loads.Ready) -> dict[str, float]:
        """Load as Polku does; return the seconds of each statement."""
        load = self.describe(ready)
        statements = {Path(file).stem: self.templates.get_template(file).render(load=load, schema=PRODUCT) for file in sql.names("load")}
        seconds, report = self.run(statements)
        assert report[0][1] == ready.rows, report
        return seconds

    def by_hand(self, ready: loads.Ready) -> dict[str, float]:
        """Load as one would by hand; return the seconds of each statement."""
        load = self.describe(ready)
        of_s = ", ".join(f"s.{column.strip()}" for column in COLUMNS.split(","))
        values = {"schema": HAND, "table": "server", "columns": COLUMNS, "of_s": of_s, "manifest": load.manifest, "role": ROLE}
        window = {"window_start": load.window_start, "window_end": load.window_end}
        texts = [text.format(**values, **window) for text in BY_HAND]
        return self.run(dict(zip(("create", "copy", "insert"), texts, strict=True)))[0]

    def run(self, statements: dict[str, str]) -> tuple[dict[str, float], Any]:
        """Run statements in one transaction; return the seconds of each and the rows of the last. The login is not counted."""
        seconds = {}
        rows: Any = ()
        with self.connection() as connection, connection.cursor() as cursor:
            for name, text in statements.items():
                begin = time.perf_counter()
                cursor.execute(text)
                rows = cursor.fetchall() if cursor.description else ()
                seconds[name] = time.perf_counter() - begin
            begin = time.perf_counter()
            connection.commit()
            seconds["commit"] = time.perf_counter() - begin
        return seconds, rows


class _Staged:
    """Puts staged objects into S3."""

    def __init__(self, s3: Any, prefix: str) -> None:
        self._s3, self._prefix = s3, prefix
        self.objects: list[StagedObject] = []

    def staged(self, data: bytes, rows: int) -> None:
        """Put one."""
        key = f"{self._prefix}-{len(self.objects):05}.zst"
        etag = self._s3.put_object(Bucket=BUCKET, Key=key, Body=data)["ETag"]
        self.objects.append(StagedObject(key=key, size=len(data), rows=rows, etag=etag))

    def quarantined(self, _data: bytes, events: int) -> None:
        """Refuse: these events are good."""
        raise AssertionError(f"{events} events were quarantined")


@contextlib.contextmanager
def warehouse() -> Iterator[Warehouse]:
    """Start S3 and Redshift on loopback, in threads of this process but for PostgreSQL."""
    with AwsServer() as aws, RedshiftServer(s3_endpoint=aws.url) as redshift:
        aws.create(bucket=BUCKET)
        made = Warehouse(aws, redshift)
        try:
            yield made
        finally:
            made.admin.close()


def medians(runs: list[dict[str, float]], *, least: float = 0.005) -> dict[str, float]:
    """Return the median seconds of each statement, the longest first; those that take next to nothing are left out."""
    found = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return {name: round(value, 3) for name, value in sorted(found.items(), key=lambda item: -item[1]) if value >= least}


def say(text: str) -> None:
    """Show progress; the results go to stdout."""
    print(text, file=sys.stderr, flush=True)
