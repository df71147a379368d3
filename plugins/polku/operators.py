"""
The tasks that are SQL: load and migrate, as operators so that the rendered statements stand in Airflow's UI.

The SQL depends on what is ready once the task runs, so it is rendered in ``execute`` and shown afterwards.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.sql.hooks.handlers import fetch_all_handler
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from polku import archive, connections, loads, redshift, sentry, sql, steps, tasks
from polku.errors import FailedLoad, RefusedLoad, SettingsError, StaleLoad
from polku.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2
    from airflow.providers.common.sql.hooks.sql import DbApiHook
    from airflow.sdk import Context

    from polku.loads import Ready

_STALE_TRIES = 3
_FAILURES = 3
"""So many batches may fail one after the other, each by itself, until Redshift and none of them counts as the cause."""
_BEFORE_THE_LOCK = 2
"""The migrations that make the schema and the table that the others are recorded in; both may run any number of times."""


class _LateSqlOperator(SQLExecuteQueryOperator):
    """Runs ``sql`` over redshift_default in one transaction, rendered only once its values are known."""

    sql: list[str]
    overwrite_rtif_after_execution = True
    ui_color = "#e8f0e4"

    def __init__(self, *, folder: str, **kwargs: Any) -> None:
        super().__init__(sql=sql.names(folder), conn_id="redshift_default", autocommit=False, handler=fetch_all_handler, **kwargs)

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Leave the SQL as it is: its values are not known yet."""

    def rendered(self, context: Context, templates: Sequence[str], **values: Any) -> list[str]:
        """Return the statements with ``values`` and Airflow's own template variables in place."""
        template_context = cast("Context", {**context, **values})
        statements: list[str] = self.render_template(list(templates), template_context, self.get_template_env())
        return statements

    def get_db_hook(self) -> DbApiHook:
        """Return a hook that tries one login; Airflow's retries and the next run are the further tries."""
        return connections.redshift_hook()

    def run(self, statements: list[str]) -> list[dict[str, Any]]:
        """Run the statements in one transaction and return the rows of the last; errors are sorted by ``polku.redshift``."""
        self.sql = statements
        hook = self.get_db_hook()
        with redshift.sorted_errors():
            results = cast("list[Any]", hook.run(statements, autocommit=False, handler=fetch_all_handler))
        description = hook.descriptions[-1]
        return [dict(zip((column[0] for column in description), row, strict=True)) for row in results[-1] or ()] if description else []


class LoadOperator(_LateSqlOperator):
    """
    Loads every batch that is ready: one transaction for batches whose arrivals lie together, oldest first.

    Args:
        source: "server" or "client".
    """

    template_fields = ("sql",)

    def __init__(self, *, source: str, **kwargs: Any) -> None:
        super().__init__(folder="load", **kwargs)
        self.source = source

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Load what is ready and return the books of it. A batch that Redshift refuses is held back, the others are loaded."""
        with tasks.reactions():
            return self._load_all(context)

    def _load_all(self, context: Context) -> list[dict[str, Any]]:
        settings = Settings.from_env(os.environ)
        run = tasks.run_of(self.source, context)
        templates: list[str] = self.sql
        ready = steps.ready(run)
        forgotten = run.batch not in {one.batch for one in ready} and steps.was_loaded(run)
        if ready:
            connections.provide_redshift(settings)
        else:
            self.log.info("Nothing is ready to be loaded")
        books: list[dict[str, Any]] = []
        shown: list[str] = []
        refused: dict[str, str] = {}
        failed: dict[str, str] = {}
        queue = loads.group(ready, most_batches=settings.load.max_batches)
        number = in_a_row = 0
        while queue:
            group = queue.pop(0)
            number += 1
            try:
                books += self._load(context, run, group, templates, number)
                in_a_row = 0
            except (FailedLoad, RefusedLoad) as error:
                in_a_row = in_a_row + 1 if isinstance(error, FailedLoad) else 0
                if in_a_row > _FAILURES or (in_a_row and context["ti"].try_number == 1):
                    raise
                if len(group) > 1:
                    self.log.warning("Redshift did not take %d batches together, each is tried by itself: %s", len(group), error)
                    queue[:0] = [[one] for one in group]
                elif in_a_row:
                    failed[group[0].batch.id] = str(error)
                else:
                    refused[group[0].batch.id] = str(error)
                    steps.held_back(run, refused)  # now: the next group may fail, or the time be over
            shown += self.sql
        self.sql = shown
        if refused:
            raise SettingsError(
                f"Redshift refused {len(refused)} of {len(ready)} batches; they are held back, the others are loaded. "
                f"Find the cause, then clear the run of each: {refused}"
            )
        if failed:
            raise FailedLoad(f"Redshift failed at {len(failed)} of {len(ready)} batches, each by itself; the others are loaded: {failed}")
        if forgotten:
            raise SettingsError(
                f"{run.batch} is loaded already and cannot be loaded again as it is: what its parts were transformed to is gone. "
                "Clear its run from `commit` on."
            )
        return books

    def _load(self, context: Context, run: steps.Run, group: list[Ready], templates: list[str], number: int) -> list[dict[str, Any]]:
        """Load one group; where a newer transform has overtaken it, look again at what is there."""
        settings = run.settings
        for again in range(_STALE_TRIES):
            name = f"{group[0].batch.name}-{run.attempt}-{number}-{again}"
            key = archive.load_manifest_key(self.source, name)
            archive.write_load_manifest(run.s3, run.bucket, key, [staged for one in group for staged in one.staged])
            load = loads.describe(
                group,
                name=name,
                manifest=f"s3://{run.bucket}/{key}",
                iam_role=settings.iam_role,
                dedup_days=settings.load.dedup_days,
                error_share=settings.load.quarantine_error_share,
            )
            try:
                books = self.run(self.rendered(context, templates, load=load, schema=settings.schema))
            except StaleLoad as error:
                self.log.warning("%s; reading the receipts again", error)
                ids = {one.batch.id for one in group}
                group = [one for one in steps.ready(run) if one.batch.id in ids]
                if not group:
                    return []
                continue
            for line in books:
                self.log.info(
                    "Committed %s: received %s = loaded %s + duplicates %s + quarantined %s",
                    *(line[name] for name in ("batch_id", "received", "loaded", "duplicates", "quarantined")),
                )
            steps.loaded(run, [one.batch.id for one in group])
            for one, book in zip(group, load.batches, strict=True):
                sentry.warn_quarantine(one.batch, book.reasons, received=book.received)
            return books
        named = [one.batch.id for one in group]
        raise RefusedLoad(f"the books hold a newer transform than the receipts of {named}, however often these are read")


class MigrateOperator(_LateSqlOperator):
    """Brings the schema up to date: each migration that is not recorded yet, in order, in one transaction behind a lock."""

    template_fields = ("sql",)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(folder="migrate", **kwargs)
        self.versions = [name.removeprefix("migrate/").removesuffix(".sql").partition("_")[::2] for name in self.sql]
        self.sql += ["migrate/lock.sql", "migrate/applied.sql", "migrate/record.sql"]

    def execute(self, context: Context) -> list[str]:
        """Apply what is missing and return its versions."""
        with tasks.reactions(), redshift.sorted_errors():
            settings = Settings.from_env(os.environ)
            connections.provide_redshift(settings)
            *migrations, lock, applied, record = self.sql
            executed: list[str] = []
            with closing(self.get_db_hook().get_conn()) as connection, closing(connection.cursor()) as cursor:

                def run(template: str, **values: Any) -> None:
                    executed.append(self.rendered(context, [template], schema=settings.schema, **values)[0])
                    cursor.execute(executed[-1])

                for template in migrations[:_BEFORE_THE_LOCK]:
                    run(template)
                connection.commit()
                run(lock)
                run(applied)
                there = {version for (version,) in cursor.fetchall()}
                missing = [(*at, template) for at, template in zip(self.versions, migrations, strict=True) if at[0] not in there]
                for version, name, template in missing:
                    run(template)
                    run(record, migration={"version": version, "name": name})
                connection.commit()
            self.sql = executed
            self.log.info("Schema %s: applied %d of %d migrations, the others were there", settings.schema, len(missing), len(migrations))
            return [version for version, _, _ in missing]
