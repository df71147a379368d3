"""The whole pipeline: the scheduler delivers what was sent, by every way in, each event once."""

from __future__ import annotations

import time

import psutil
import pytest

from local import stack
from local.demo import deliver
from local.stack import Place


@pytest.mark.end_to_end
@pytest.mark.timeout(600)
def test_the_scheduler_delivers_what_was_sent_and_nothing_is_left_behind(tmp_path):
    """Rows, books, quarantine, names, log and Slack agree with what went in, also after Redshift was killed; all ends with the stack."""
    place = Place(tmp_path)
    said = []

    with stack.running(place, say=print) as env:
        outcome, expected = deliver(place, env, 600, say=print)
        differences = outcome.differences(expected)
        stack.up(place, say=said.append)
        supervisor = psutil.Process(place.state()["pid"])
        psutil.Process(place.state()["services"]["redshift"]).kill()
        while stack.status(place)[1]:
            time.sleep(0.1)
        stack.up(place, say=said.append)
        text, well = stack.status(place)
        differences += outcome.differences(expected)
        processes = [supervisor, *supervisor.children(recursive=True)]

    assert differences == []
    assert said == ["The stack is already up.", "Starting what has ended: redshift"]
    assert well, text
    assert [process for process in processes if process.is_running()] == []
