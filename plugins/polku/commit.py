"""
The decisions of the commit protocol, as pure functions over the checkpoint.

A batch is made once, by one conditional write of the checkpoint, and never changes; the stream only moves
forward; whatever is pending is carried on by any later run. ``docs/guarantees.md`` names the tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from polku.batches import Batch, Checkpoint, Lane, Manifest, Part, Pending, Position

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Move = Literal["resume", "replay", "drain", "heal", "nothing"]

SHARDS_PER_LANE = 4
"""Below so many shards a second lane costs more (a task's start-up) than it saves."""

REFRESH_CAUGHT_UP_MS = 3_600_000
"""How old the note "nothing was left to read" may get before an idle stream's checkpoint is written again."""


def next_move(batch: Batch, checkpoint: Checkpoint, *, has_manifest: bool) -> Move:
    """
    Return what a run has to do for its batch.

    "resume": the batch is pending, go on with its parts. "replay": it was made before, transform and load it again.
    "drain": it is newer than every batch, read on from the checkpoint. "heal": nothing of its own, others are pending.
    """
    if batch.id in checkpoint.pending:
        return "resume"
    if has_manifest:
        return "replay"
    if not checkpoint.newest or batch.at > Batch.parse(checkpoint.newest).at:
        return "drain"
    return "heal" if healable(checkpoint) else "nothing"


def healable(checkpoint: Checkpoint) -> list[str]:
    """Return the ids of pending batches that may be loaded, oldest first: all but the held ones."""
    return sorted((id_ for id_, entry in checkpoint.pending.items() if not entry.held), key=lambda id_: Batch.parse(id_).at)


def lanes(
    families: Sequence[Sequence[str]], *, most: int, files: bool, forget: Sequence[str] = (), gaps: Mapping[str, int] | None = None
) -> list[Lane]:
    """
    Distribute families of shards (a shard and its unread descendants, parents first) over at most ``most`` lanes.

    The S3 buffer has a lane of its own. What is to be forgotten travels with the first stream lane.
    """
    wanted = min(most, -(-len(families) // SHARDS_PER_LANE)) if families else int(bool(forget))
    result = []
    for i in range(wanted):
        shards = tuple(key for family in families[i::wanted] for key in family)
        own_gaps = {key: seconds for key, seconds in (gaps or {}).items() if key in shards or (i == 0 and key in forget)}
        result.append(Lane(name=f"shards-{i}", kind="stream", shards=shards, forget=tuple(forget) if i == 0 else (), gaps=own_gaps))
    if files:
        result.append(Lane(name="files", kind="files"))
    return result


def add(checkpoint: Checkpoint, batch: Batch, parts: Sequence[Part]) -> Checkpoint | None:
    """
    Return the checkpoint in which ``batch`` is made of those parts whose shards still stand where they began.

    None where there is nothing to write: the batch is there already, is too old to be made, or nobody brought anything.
    Where no part brought records but a shard was finished, is to be forgotten or was long idle, only positions move; what
    retention has taken from it is kept until there is a batch to tell it with.
    """
    if batch.id in checkpoint.pending or (checkpoint.newest and batch.at <= Batch.parse(checkpoint.newest).at):
        return None
    positions, files, gaps = dict(checkpoint.positions), checkpoint.files, dict(checkpoint.gaps)
    kept: list[Part] = []
    moved = False
    for part in parts:
        if not _stands_where_it_began(part, positions, files):
            continue
        for key, end in part.end.items():
            was = positions.get(key, Position())
            moved = moved or end.finished != was.finished or end.caught_up - was.caught_up > REFRESH_CAUGHT_UP_MS
            positions[key] = end
        # A shard that is forgotten already was told of by who forgot it.
        told = {key: seconds for key, seconds in part.gaps.items() if key in positions or key not in part.forget}
        for key in part.forget:
            moved = positions.pop(key, None) is not None or moved
        if part.files:
            files += 1
        if part.objects:
            kept.append(msgspec.structs.replace(part, gaps=told))
        else:
            gaps |= told
    if not kept:
        return msgspec.structs.replace(checkpoint, positions=positions, gaps=gaps) if moved else None
    kept[0] = msgspec.structs.replace(kept[0], gaps={**gaps, **kept[0].gaps})
    return msgspec.structs.replace(
        checkpoint,
        positions=positions,
        files=files,
        gaps={},
        newest=batch.id,
        pending={**checkpoint.pending, batch.id: Pending(parts=tuple(kept))},
    )


def unsettled(checkpoint: Checkpoint) -> list[Manifest]:
    """Return the manifests of pending batches that may not be written yet, or whose buffer files may still be there."""
    return [Manifest(batch=id_, parts=entry.parts) for id_, entry in checkpoint.pending.items() if entry.parts]


def settle(checkpoint: Checkpoint, batches: Collection[str]) -> Checkpoint:
    """Return the checkpoint without the parts of these batches: their manifests are written, their buffer files deleted."""
    pending = {id_: msgspec.structs.replace(entry, parts=()) if id_ in batches else entry for id_, entry in checkpoint.pending.items()}
    return msgspec.structs.replace(checkpoint, pending=pending)


def hold(checkpoint: Checkpoint, batches: Mapping[str, str]) -> Checkpoint:
    """Return the checkpoint in which these batches (id -> reason) wait for a person."""
    pending = {
        id_: msgspec.structs.replace(entry, held=batches[id_]) if id_ in batches else entry for id_, entry in checkpoint.pending.items()
    }
    return msgspec.structs.replace(checkpoint, pending=pending)


def drop(checkpoint: Checkpoint, loaded: Collection[str]) -> Checkpoint:
    """Return the checkpoint without these loaded batches, but for those whose buffer files may still be there."""
    pending = {id_: entry for id_, entry in checkpoint.pending.items() if id_ not in loaded or any(part.files for part in entry.parts)}
    return msgspec.structs.replace(checkpoint, pending=pending)


def refresh(checkpoint: Checkpoint, caught_up: Collection[str], now_ms: int) -> Checkpoint | None:
    """
    Return the checkpoint that notes for idle shards that nothing was left to read at ``now_ms``; None where it is noted well enough.

    Without it a stream that was empty for days looks as if retention had overtaken it.
    """
    stale = {
        key: msgspec.structs.replace(at, caught_up=now_ms)
        for key in caught_up
        if (at := checkpoint.positions.get(key, Position())).caught_up < now_ms - REFRESH_CAUGHT_UP_MS and not at.finished
    }
    return msgspec.structs.replace(checkpoint, positions={**checkpoint.positions, **stale}) if stale else None


def _stands_where_it_began(part: Part, positions: Mapping[str, Position], files: int) -> bool:
    """Tell whether nobody else has committed what this part read."""
    if part.files_from >= 0 and part.files_from != files:
        return False
    for key, start in part.start.items():
        at = positions.get(key, Position())
        if (at.after, at.finished) != (start.after, start.finished):
            return False
    return True
