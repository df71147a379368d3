"""
Two at once, and more: runs, retries, zombies, cleared and backfilled runs, interleaved request by request.

Hypothesis draws the tapes that ``schedules.py`` plays; ``make torture`` plays many more.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.crash import schedules

EXAMPLES = int(os.environ.get("POLKU_SCHEDULES", "5"))
NUMBERS = st.integers(0, schedules.MOST - 1)


@pytest.mark.timeout(3600)
@settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), print_blob=True)
@given(numbers=st.lists(NUMBERS, min_size=schedules.LENGTH // 2, max_size=schedules.LENGTH))
def test_no_interleaving_loses_doubles_or_strands_anything(stack, numbers):
    """Backfills pass by max_active_runs, and Airflow gives a try up that still lives: no lock but the protocol stands between them."""
    findings = schedules.perform(stack, numbers)

    assert not findings
