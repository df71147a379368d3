"""
What is wrong with the pipeline, as pure decisions: from what was seen and what people know already to what they are to be told.

An incident is told once when it opens, once when it is over, and again every ``REMIND_MS`` while it lasts.
``lookout.py`` looks and tells; ``archive.py`` keeps ``Watch`` in ``state/watch.json``.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

Level = Literal["WARNING", "ERROR"]

REMIND_MS = 6 * 3_600_000
"""An incident that lasts is told again after so long: once for every shift, so that nobody thinks that somebody else has mended it."""

PATIENCE_MS = {"redshift": 240_000, "buffer": 240_000}
"""
By kind, how long an incident is kept to ourselves: one failed login, or one answer of a stream that was late, is no news.
Less than the five minutes between two looks, so it is told when the second look finds it too. The other kinds have their own thresholds.
"""

_LOSS_SHARE = 0.5
"""Of the retention: beyond it lag is an ERROR. There is as much time left to mend it as it took to come to this."""
_OVER_SHARE = 0.5
"""Of its threshold: lag that was told is over only below, so that what hovers at the threshold is not told again and again."""
_NAMED = 3
"""Batches, and reasons, that a text names."""
_MAX_TEXT = 1_000


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """
    From when on something is an incident, in seconds.

    Args:
        lag: Age of the oldest record or file that was not drained.
        pending: Age of the oldest batch that was drained and not loaded.
        unforwarded: Age of the oldest log row that Slack has not got.
    """

    lag: int
    pending: int
    unforwarded: int


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """
    The oldest record of a shard that was not drained, or the oldest file of the S3 buffer.

    Args:
        place: The shard's key, or the file's.
        since: Its arrival, in ms since 1970.
        kept: Seconds that the stream keeps a record; 0 where it is kept for as long as it takes (a file).
    """

    place: str
    since: int
    kept: int = 0


class SourceSeen(msgspec.Struct, frozen=True, kw_only=True):
    """
    What was seen of one source.

    Args:
        waiting: What waits undrained; None where that could not be seen.
        unreadable: Why it could not; "" where it could.
        pending: When each batch that is drained and neither loaded nor held was made, in ms since 1970, by its id.
        held: Why it is held back, by batch id.
        lost: Why its checkpoint cannot be read: then there is nothing else to be seen of it; "" where it can.
    """

    waiting: tuple[Waiting, ...] | None
    unreadable: str = ""
    pending: dict[str, int] = {}
    held: dict[str, str] = {}
    lost: str = ""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one look at the pipeline came to.

    Args:
        at: When, in ms since 1970.
        sources: By name.
        away: Why Redshift could not be asked; "" where it answered.
        unforwarded: Log rows that Slack has not got; None where Redshift could not be asked.
        oldest_row: Seconds since the oldest of them was logged.
    """

    at: int
    sources: dict[str, SourceSeen]
    away: str = ""
    unforwarded: int | None = None
    oldest_row: int = 0


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong now; of batches that are held back ``size`` is their number: more of them are news."""

    level: Level
    text: str
    size: int = 0


class Incident(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    Something that is, or was, wrong.

    Args:
        since: When it was first seen, in ms since 1970.
        seen: When it was last seen.
        level: "WARNING" or "ERROR".
        text: What is wrong and what to do, as it was last seen.
        told: When people were last told of it; 0 where they were not yet.
        over: When it was first seen to be over; 0 while it lasts. It is forgotten once that was told.
        size: The most of it that was seen at once, see ``Finding``.
    """

    since: int
    seen: int
    level: Level
    text: str
    told: int = 0
    over: int = 0
    size: int = 0


class Watch(msgspec.Struct, frozen=True):
    """
    What ``polku_watch`` knows, in ``state/watch.json``.

    Args:
        incidents: By key: a kind, and mostly a source ("lag/server").
        away: When Redshift was last seen away, in ms since 1970.
    """

    incidents: dict[str, Incident] = {}
    away: int = 0


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """
    One message that is due.

    Args:
        key: Of its incident.
        word: "opened", "lasts" or "over".
        id: The same for the same announcement, whoever makes it: letters and digits.
        since: When it became due, in ms since 1970.
        level: Of the message; "INFO" says that it is over.
        text: What to say.
    """

    key: str
    word: Literal["opened", "lasts", "over"]
    id: str
    since: int
    level: Literal["INFO", "WARNING", "ERROR"]
    text: str


# -- what is wrong -----------------------------------------------------------------------------------------------


def judge(seen: Seen, thresholds: Thresholds, known: Watch) -> dict[str, Finding | None]:
    """
    Return by key what is wrong now, and None for what cannot be told now: such an incident neither opens nor ends.

    Batches that wait because Redshift is away are part of that incident. When it is back, they are given their
    threshold's time from then on before they are one of their own.
    """
    found: dict[str, Finding | None] = {}
    away = seen.at if seen.away else known.away
    waiting = sum(len(source.pending) for source in seen.sources.values())
    if seen.away:
        found["redshift"] = Finding("ERROR", f"Redshift does not take logins ({_cut(seen.away)}). {_count(waiting, 'batch', 'batches')} "
                                             "drained and waiting; they are loaded by themselves once it is back.")  # fmt: skip
    for name, source in seen.sources.items():
        if source.lost:
            found |= _lost(name, source)
            continue
        found |= _lag(name, source, thresholds, seen.at)
        found |= _pending(name, source, thresholds, seen.at, away)
    if seen.unforwarded is None:
        found["slack"] = None
    elif seen.unforwarded and seen.oldest_row >= thresholds.unforwarded:
        rows = _count(seen.unforwarded, "log row has", "log rows have")
        found["slack"] = Finding("WARNING", f"{rows} not reached Slack, the oldest for {duration(seen.oldest_row)}. "
                                            "None is lost. Look at the runs of polku_notify, and whether it is paused.")  # fmt: skip
    return found


def _lost(name: str, source: SourceSeen) -> dict[str, Finding | None]:
    text = (
        f"Where polku_{name} stands cannot be read: {_cut(source.lost)} Its runs fail, and it cannot be watched. Nothing is lost "
        "while the stream keeps its records: pause it, and put the last good checkpoint back."
    )
    return {f"state/{name}": Finding("ERROR", text), **{f"{kind}/{name}": None for kind in ("buffer", "lag", "pending", "held")}}


def _lag(name: str, source: SourceSeen, thresholds: Thresholds, now: int) -> dict[str, Finding | None]:
    if source.waiting is None:
        return {f"buffer/{name}": Finding("ERROR", f"What waits for polku_{name} cannot be seen: {_cut(source.unreadable)}"),
                f"lag/{name}": None}  # fmt: skip
    oldest = min(source.waiting, key=lambda w: w.since, default=None)
    age = now - oldest.since if oldest else 0
    if oldest is None or age < thresholds.lag * 1000:
        return {f"lag/{name}": None} if age >= thresholds.lag * _OVER_SHARE * 1000 else {}
    text = f"polku_{name} has not drained what arrived {duration((now - oldest.since) // 1000)} ago ({oldest.place})."
    left = {w.place: w.kept - (now - w.since) // 1000 for w in source.waiting if w.kept}
    endangered = [w for w in source.waiting if w.kept and left[w.place] <= w.kept * (1 - _LOSS_SHARE)]
    if not endangered:
        return {f"lag/{name}": Finding("WARNING", f"{text} Look at its runs, and whether it is paused.")}
    first = min(left[w.place] for w in endangered)
    when = f"in {duration(first)}" if first > 0 else "now"
    return {f"lag/{name}": Finding("ERROR", f"{text} The stream drops its oldest records {when}. "
                                            f"Mend polku_{name}, or raise the stream's retention.")}  # fmt: skip


def _pending(name: str, source: SourceSeen, thresholds: Thresholds, now: int, away: int) -> dict[str, Finding | None]:
    found: dict[str, Finding | None] = {}
    if source.pending:
        oldest = min(source.pending, key=lambda id_: source.pending[id_])
        limit = now - thresholds.pending * 1000
        if source.pending[oldest] <= limit < away:
            found[f"pending/{name}"] = None
        elif source.pending[oldest] <= limit:
            batches = _count(len(source.pending), "batch is", "batches are")
            age = duration((now - source.pending[oldest]) // 1000)
            text = (
                f"{batches} drained and not loaded, the oldest is {oldest}, for {age}. "
                f"Nothing is lost. Look why transform or load of polku_{name} fails; its next run goes on with them."
            )
            found[f"pending/{name}"] = Finding("WARNING", text)
    if source.held:
        ids = sorted(source.held)
        reasons = [*dict.fromkeys(source.held[id_] for id_ in ids)]
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        text = (
            f"{', '.join(ids[:_NAMED])}{more} {'is' if len(ids) == 1 else 'are'} held back: {_cut(' '.join(reasons[:_NAMED]))} "
            f"Find the cause, then clear the run of each in polku_{name}."
        )
        found[f"held/{name}"] = Finding("ERROR", text, size=len(ids))
    return found


# -- what people are told ----------------------------------------------------------------------------------------


def update(known: Watch, found: Mapping[str, Finding | None], seen: Seen) -> Watch:
    """Return what is known after a look: incidents that opened, went on or ended. Nobody has been told anything by this."""
    incidents = dict(known.incidents)
    for key, finding in found.items():
        before = incidents.get(key)
        if finding is None:
            continue
        level: Level = finding.level
        if before and not before.over and before.level == "ERROR":
            level = "ERROR"  # it does not become smaller before it is over
        since, told = (before.since, before.told) if before else (seen.at, 0)
        size = max(finding.size, before.size if before else 0)
        if before and (level != before.level or size > before.size):
            told = 0  # it has become worse: that is news
        incidents[key] = Incident(since=since, seen=seen.at, level=level, text=finding.text, told=told, size=size)
    for key in known.incidents.keys() - found.keys():
        before = known.incidents[key]
        if before.over:
            continue
        if not before.told and before.seen - before.since < _patience(key):
            del incidents[key]
        else:
            incidents[key] = msgspec.structs.replace(before, over=seen.at)
    return Watch(incidents=incidents, away=seen.at if seen.away else known.away)


def due(watch: Watch, now: int) -> list[Announcement]:
    """Return what people are to be told now, the oldest incident first."""
    result = []
    for key, incident in sorted(watch.incidents.items(), key=lambda item: (item[1].since, item[0])):
        if incident.over:
            lasted = duration((incident.over - incident.since) // 1000)
            result.append(_announcement(key, incident, "over", f"Over after {lasted}: {incident.text}"))
        elif not incident.told and now - incident.since >= _patience(key):
            result.append(_announcement(key, incident, "opened", incident.text))
        elif incident.told and now - incident.told >= REMIND_MS:
            lasts = duration((now - incident.since) // 1000)
            result.append(_announcement(key, incident, "lasts", f"Still so after {lasts}: {incident.text}"))
    return result


def mark(watch: Watch, announcement: Announcement, now: int) -> Watch:
    """Return what is known once an announcement was made. Changes nothing where the incident has moved on meanwhile."""
    incident = watch.incidents.get(announcement.key)
    if incident is None or announcement_id(announcement.key, incident, announcement.word) != announcement.id:
        return watch
    rest = {key: other for key, other in watch.incidents.items() if key != announcement.key}
    if not incident.over:
        rest[announcement.key] = msgspec.structs.replace(incident, told=now)
    return msgspec.structs.replace(watch, incidents=rest)


def announcement_id(key: str, incident: Incident, word: str) -> str:
    """Return the id of an announcement: the same from one look to the next until it is marked as made."""
    parts = (key, str(incident.since), incident.level, word, str(incident.told if word == "lasts" else 0), str(incident.size))
    return "watch" + blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def duration(seconds: float) -> str:
    """Return a length of time as people say it: "50 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    whole = int(max(seconds, 0))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86_400
    if whole < 120:  # noqa: PLR2004 -- below, minutes are too coarse
        return f"{whole} s"
    if minutes < 120:  # noqa: PLR2004 -- below, hours are too coarse
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{days} d {hours % 24} h"  # noqa: PLR2004 -- as above


def _announcement(key: str, incident: Incident, word: Literal["opened", "lasts", "over"], text: str) -> Announcement:
    level: Literal["INFO", "WARNING", "ERROR"] = "INFO" if word == "over" else incident.level
    since = {"opened": incident.since, "lasts": incident.told, "over": incident.over}[word]
    return Announcement(key=key, word=word, id=announcement_id(key, incident, word), since=since, level=level, text=text)


def _patience(key: str) -> int:
    return PATIENCE_MS.get(key.partition("/")[0], 0)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    line = line if len(line) <= _MAX_TEXT else line[:_MAX_TEXT] + "…"
    return line if line.endswith((".", "…", ")")) else line + "."
