"""
Faults at the requests of a run: a sample of the matrix that ``make torture`` tries whole.

The points come from a recorded run, so a new write is covered the day it is written. The sample takes one of most kinds of
point (step, server, fault), others every day: the seed is that of the day, and is shown when a trial fails.
"""

from __future__ import annotations

import os
import random
from datetime import datetime, timezone

import pytest

from tests.crash import trials

SEED = int(os.environ.get("POLKU_SEED", f"{datetime.now(timezone.utc):%Y%m%d}"))
SAMPLE = 40


@pytest.fixture(scope="module")
def points(stack):
    return {source: trials.record(stack, source) for source in ("server", "client")}


@pytest.mark.timeout(600)
def test_a_fault_anywhere_loses_and_doubles_nothing(stack, points):
    """Whatever dies, and wherever: a retry or the next run brings every event, name, log row and message once."""
    bad = {}
    for trial in sample(points):
        findings = trials.perform(stack, trial)
        if findings:
            bad[str(trial)] = findings

    assert not bad, f"POLKU_SEED={SEED}"


def sample(points):
    """Return trials of all kinds: each fault with each server, then each step, then any."""
    dice = random.Random(SEED)
    every = [trial for source, found in points.items() for trial in trials.matrix(source, found)]
    dice.shuffle(every)
    kinds = {(trial.fault, trial.point.server): trial for trial in every}
    kinds |= {(trial.point.worker, trial.source): trial for trial in every if (trial.point.worker, trial.source) not in kinds}
    chosen = list(kinds.values())
    dice.shuffle(chosen)
    return chosen[:SAMPLE]


def test_every_step_and_every_write_is_among_the_points(points):
    """What is not recorded is not tried."""
    workers = {"plan", "drain shards-0", "drain files", "commit", "transform shards-0", "transform files", "load", "notify"}
    writes = {
        *("PUT state/{s}/checkpoint.json", "PUT state/{s}/batches/*.json", "PUT state/{s}/receipts/*/files.json"),
        *("PUT raw/{s}/dt=*/*/shards-0-*-00000", "COPY raw/{s}/dt=*/*/files-*-00000", "DELETE buffer/{s}/0000.jsonl"),
        *("PUT staged/{s}/dt=*/*/files-*-00000.zst", "PUT quarantine/{s}/dt=*/*/shards-0-*-00000.jsonl.zst"),
        *("PUT load/{s}/*-*-1-0.manifest", "31_copy_staged.sql", "commit", "chat.postMessage", "50_forward.sql"),
        "POST /api/1/envelope/",
    }
    for source, found in points.items():
        assert {point.worker for point in found} == workers
        assert {w.replace("{s}", source) for w in writes} <= {point.label for point in found if point.write}
    assert "select user_id, user_name" in {point.label for point in points["server"] if point.server == "names"}
