"""The whole pipeline: the scheduler delivers what was sent, by every way in, each event once."""

from __future__ import annotations

import psutil
import pytest

from local import stack
from local.demo import deliver
from local.stack import Place


@pytest.mark.end_to_end
@pytest.mark.timeout(600)
def test_the_scheduler_delivers_what_was_sent_and_nothing_is_left_behind(tmp_path):
    """Rows, books, quarantine, names, log and Slack agree with what went in; every process ends with the stack."""
    place = Place(tmp_path)
    said = []

    with stack.running(place, say=print) as env:
        outcome, expected = deliver(place, env, 600, say=print)
        differences = outcome.differences(expected)
        stack.up(place, say=said.append)
        text, well = stack.status(place)
        supervisor = psutil.Process(place.state()["pid"])
        processes = [supervisor, *supervisor.children(recursive=True)]

    assert differences == []
    assert said == ["The stack is already up."]
    assert well, text
    assert [process for process in processes if process.is_running()] == []
