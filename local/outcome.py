"""What came out of the pipeline: rows, books, names, log and Slack, and where that differs from what went in."""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polku.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from local.samples import Expected

_NAMING = re.compile(r"New user: (\S+) -> ([^\n]+)")
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Books:
    """The books of one source: the sums of all its batches."""

    batches: int = 0
    received: int = 0
    loaded: int = 0
    duplicates: int = 0
    conflicting: int = 0
    quarantined: int = 0


class Outcome:
    """
    Reads the warehouse and Slack.

    Args:
        env: The environment of the stack.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._settings = Settings.from_env({**os.environ, **env})
        self.schema = self._settings.schema

    def query(self, statement: str) -> list[Sequence[Any]]:
        """Return the rows of one query; ``{schema}`` in it stands for the schema."""
        import redshift_connector

        redshift = self._settings.redshift
        options: dict[str, Any] = {
            "host": redshift.host,
            "port": redshift.port,
            "database": redshift.db,
            "user": redshift.user,
            **redshift.options,
        }
        with (
            closing(redshift_connector.connect(password=redshift.password, **options)) as connection,
            closing(connection.cursor()) as cursor,
        ):
            cursor.execute(statement.replace("{schema}", self.schema))
            return list(cursor.fetchall())

    def books(self) -> dict[str, Books]:
        """Return the books by source."""
        rows = self.query(
            "select source, count(*), sum(received), sum(loaded), sum(duplicates), sum(conflicting), sum(quarantined) "
            "from {schema}.batch group by source"
        )
        found = {}
        for source, *counts in rows:
            batches, received, loaded, duplicates, conflicting, quarantined = map(int, counts)
            found[str(source)] = Books(
                batches=batches, received=received, loaded=loaded, duplicates=duplicates, conflicting=conflicting, quarantined=quarantined
            )
        return {source: found.get(source, Books()) for source in self._settings.sources}

    def waiting(self) -> tuple[int, int]:
        """Return how many log rows there are, and how many of them wait for Slack."""
        rows = self.query("select count(*), sum(case when forwarded_at is null then 1 else 0 end) from {schema}.log")
        return int(rows[0][0]), int(rows[0][1] or 0)

    def slack(self) -> list[str] | None:
        """Return the texts that Slack received, as people see them; None where this is not the local Slack."""
        url = self._env["SLACK_API_URL"].removesuffix("api/") + "messages"
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
                return [message["text"] for message in json.loads(answer.read())]
        except (OSError, ValueError, TypeError):
            return None

    def differences(self, expected: Mapping[str, Expected]) -> list[str]:
        """Return where what came out differs from what went in, each as a sentence; none where all agrees."""
        found = [difference for source, part in expected.items() for difference in self._of_source(source, part)]
        users = set().union(*(part.users for source, part in expected.items() if self._settings.sources[source].translate))
        found += self._of_names(users)
        return found

    def _of_source(self, source: str, expected: Expected) -> Iterator[str]:
        """Yield what differs in one table and its books."""
        ids = Counter(str(row[0]) for row in self.query(f"select message_id from {{schema}}.{source}"))  # noqa: S608 -- one of our two
        derived = {one for one in ids if one.startswith("polku-")}
        yield from _sets(f"rows of {source}", expected.ids, ids.keys() - derived)
        if len(derived) != expected.without_id:
            yield f"{source}: {len(derived)} rows with a derived messageId; expected {expected.without_id}"
        if doubled := [one for one, count in ids.items() if count > 1]:
            yield f"{source}: {len(doubled)} messageIds have several rows, e.g. {doubled[0]}"
        books = self.books()[source]
        for name, is_, should in (
            ("received", books.received, expected.received),
            ("loaded", books.loaded, expected.rows),
            ("duplicates", books.duplicates, expected.duplicates),
            ("conflicting duplicates", books.conflicting, expected.conflicting),
            ("quarantined", books.quarantined, sum(expected.quarantined.values())),
        ):
            if is_ != should:
                yield f"{source}: the books say {name} {is_}; expected {should}"
        rows = self.query(f"select reason, sum(events) from {{schema}}.rejected where source = '{source}' group by reason")  # noqa: S608 -- one of our two
        reasons = {str(reason): int(count) for reason, count in rows}
        for reason in sorted(reasons.keys() | expected.quarantined.keys()):
            if reasons.get(reason, 0) != expected.quarantined[reason]:
                yield f"{source}: {reasons.get(reason, 0)} events in quarantine for {reason}; expected {expected.quarantined[reason]}"
        if bad := self.query(f"select batch_id from {{schema}}.books where not balanced and source = '{source}'"):  # noqa: S608 -- one of our two
            yield f"{source}: the books of {len(bad)} batches do not balance, e.g. {bad[0][0]}"

    def _of_names(self, users: set[str]) -> Iterator[str]:
        """Yield what differs in registry, rows, log and Slack about who was named."""
        names = {str(user): str(name) for user, name in self.query("select user_id, user_name from {schema}.user_name")}
        yield from _sets("named users", users, names.keys())
        for source, found in self._settings.sources.items():
            wanted = (
                "t.user_id is not null and (t.user_name is null or t.user_name <> u.user_name)"
                if found.translate
                else "t.user_name is not null"
            )
            wrong = self.query(
                f"select t.user_id, t.user_name, u.user_name from {{schema}}.{source} as t "  # noqa: S608 -- one of our two
                f"left join {{schema}}.user_name as u on t.user_id = u.user_id where {wanted}"
            )
            if wrong:
                yield f"{source}: {len(wrong)} rows have another name than the registry, e.g. {wrong[0]}"
        logged = Counter(match[1] for row in self.query("select message from {schema}.log") if (match := _NAMING.match(str(row[0]))))
        yield from _counts("the log", names, logged)
        texts = self.slack()
        if texts is not None:
            yield from _counts("Slack", names, Counter(match[1] for text in texts for match in _NAMING.finditer(text)))


def _sets(what: str, expected: AbstractSet[str], found: AbstractSet[str]) -> Iterator[str]:
    for word, some in (("missing", expected - found), ("not expected", found - expected)):
        if some:
            yield f"{what}: {len(some)} {word}, e.g. {', '.join(sorted(some)[:_SHOWN])}"


def _counts(where: str, names: Mapping[str, str], found: Counter[str]) -> Iterator[str]:
    """Yield which users were not announced exactly once."""
    for user in sorted(names.keys() | found.keys()):
        if found[user] != (user in names):
            yield f"{where} announces {user} {found[user]} times; expected {int(user in names)}"
