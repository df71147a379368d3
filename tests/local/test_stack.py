"""The local stack: processes that belong together, addresses that win, samples that are accounted for."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from local import airflow, samples, stack
from local.processes import Failed, Group, free_ports
from local.stack import NotUp, Place

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 24, 10, 41)
BOUND = 30.0


@pytest.fixture
def group(tmp_path):
    """A group whose logs are in a folder of the test's own."""
    with Group(tmp_path) as group:
        yield group


def start(group, name, code):
    """Start a Python process in the group."""
    return group.start(name, [sys.executable, "-u", "-c", code], os.environ, ROOT)


def until(condition):
    """Wait until a condition holds, within bounds."""
    deadline = time.monotonic() + BOUND
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return found


# -- processes ---------------------------------------------------------------------------------------


def test_a_process_is_ready_when_it_says_so(group):
    """Stand-ins print one line when they can be called."""
    start(group, "one", "print('starting'); print('ready http://127.0.0.1:1', flush=True); import time; time.sleep(60)")
    start(group, "two", "print('ready http://127.0.0.1:2 and more', flush=True); import time; time.sleep(60)")

    urls = group.wait_for_urls(["one", "two"], BOUND)

    assert urls == {"one": "http://127.0.0.1:1", "two": "http://127.0.0.1:2"}


def test_a_process_that_ends_instead_of_being_ready_is_shown_with_its_last_words(group):
    """The reason is in its log, which nobody should have to look for."""
    start(group, "one", "import sys; sys.exit('port 1 is taken')")

    with pytest.raises(Failed, match=r"one ended with 1\. The end of .*one\.log:\nport 1 is taken"):
        group.wait_for_urls(["one"], BOUND)


def test_a_process_that_is_never_ready_is_given_up(group):
    """A start that hangs must end in a message."""
    start(group, "one", "print('thinking', flush=True); import time; time.sleep(60)")
    until(lambda: "thinking" in group.processes["one"].tail())

    with pytest.raises(Failed, match="one was not ready after 0 s"):
        group.wait_for_urls(["one"], 0)


def test_nothing_outlives_its_group(tmp_path):
    """Neither a process that ignores SIGTERM, nor a child of its own session whose parent has gone."""
    daemon = "import os, time; os.setsid(); open({!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {daemon.format(str(tmp_path / 'pid'))!r}])"
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready x', flush=True); time.sleep(60)"

    with Group(tmp_path) as group:
        start(group, "parent", parent)
        process = start(group, "stubborn", stubborn)
        group.wait_for_end("parent", BOUND)
        group.wait_for_urls(["stubborn"], BOUND)
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        orphan = psutil.Process(int((tmp_path / "pid").read_text()))
        import local.processes

        local.processes.GRACE_SECONDS, grace = 0.2, local.processes.GRACE_SECONDS
    local.processes.GRACE_SECONDS = grace

    assert process.ended
    assert not orphan.is_running()


def test_a_port_that_is_taken_is_replaced_by_a_free_one():
    """Somebody's own PostgreSQL on 5439 must not stop the stack, nor two servers meet on one port."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        found = free_ports({"one": port, "two": port, "three": 0})

    assert port not in found.values()
    assert len(set(found.values())) == 3


# -- addresses ---------------------------------------------------------------------------------------


def test_an_address_in_the_environment_wins():
    """Whoever has a LocalStack or a real Slack token uses it."""
    environ = {"AWS_ENDPOINT_URL_KINESIS": "http://kinesalite:4567", "SLACK_TOKEN": "xoxb-real", "HOME": "/root", "SENTRY_DSN": ""}

    assert stack.given(environ, {}) == {"AWS_ENDPOINT_URL_KINESIS": "http://kinesalite:4567", "SLACK_TOKEN": "xoxb-real"}


def test_an_address_of_the_last_stack_does_not_win():
    """A shell that has sourced stack.env starts the next stack like any other."""
    last = {"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "SLACK_TOKEN": "xoxb-local"}

    assert stack.given({**last, "SENTRY_DSN": "https://k@sentry.example.com/1"}, last) == {"SENTRY_DSN": "https://k@sentry.example.com/1"}


@pytest.mark.parametrize(
    ("theirs", "started"),
    [
        ({}, {"aws", "kinesis", "redshift", "slack", "sentry", "api"}),
        ({"AWS_ENDPOINT_URL": "http://localstack:4566"}, {"redshift", "slack", "sentry", "api"}),
        ({"AWS_ENDPOINT_URL_KINESIS": "http://kinesalite:4567"}, {"aws", "redshift", "slack", "sentry", "api"}),
        ({"SLACK_TOKEN": "xoxb-real", "SENTRY_DSN": "https://k@s/1"}, {"aws", "kinesis", "redshift", "api"}),
        ({"REDSHIFT_HOST": "dev.example.com", "POLKU_API_URL": "https://api/dev"}, {"aws", "kinesis", "slack", "sentry"}),
    ],
)
def test_a_server_whose_address_is_given_is_not_started(tmp_path, theirs, started):
    """Whoever has one of their own uses it."""
    env, servers = stack._plan(Place(tmp_path), theirs)

    assert set(servers) == started
    assert theirs.items() <= env.items()


def test_a_shell_reads_what_the_stack_wrote(tmp_path):
    """Passwords may hold anything; the file is for its owner alone."""
    place = Place(tmp_path)
    env = {"REDSHIFT_PWD": 'it\'s $HOME "quoted" `here`', "AIRFLOW_URL": "http://127.0.0.1:8080"}

    stack._write(place.env_file, stack._shell(env))

    said = subprocess.run(
        ["/bin/sh", "-c", f"set -a; . {place.env_file}; printenv REDSHIFT_PWD"], capture_output=True, text=True, check=True
    ).stdout
    assert said == env["REDSHIFT_PWD"] + "\n"
    assert place.env() == env
    assert stat.S_IMODE(place.env_file.stat().st_mode) == 0o600


def test_airflow_is_told_to_listen_on_loopback_alone(tmp_path):
    """By default it would listen on all addresses."""
    configured = airflow.configuration(tmp_path, port=8080, metadata="postgresql://x", password="p")

    assert configured["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert "--skip-serve-logs" in airflow.arguments("scheduler")


# -- commands ----------------------------------------------------------------------------------------


def test_a_stack_that_cannot_start_says_why(tmp_path, monkeypatch):
    """A fault of the parameters is found before anything is started."""
    monkeypatch.setenv("POLKU_STAGE", "NOWHERE")
    said = []

    with pytest.raises(NotUp, match="the stack did not start; see"):
        stack.up(Place(tmp_path), say=said.append)

    assert any("POLKU_STAGE is 'NOWHERE'" in line for line in said)
    assert not Place(tmp_path).is_supervised()


def test_down_where_nothing_is_up_says_so(tmp_path):
    """It is no failure: what was wanted is the case."""
    said = []

    stack.down(Place(tmp_path), say=said.append)

    assert said == ["The stack is not up."]


def test_ctrl_c_while_the_stack_starts_leaves_nothing_behind(tmp_path):
    """Servers are up by then, Airflow is not."""
    place = Place(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "local.stack", "--folder", str(tmp_path), "up"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as up:
        heard = next(line for line in up.stdout if "Servers are ready" in line)
        children = psutil.Process(place.state()["pid"]).children(recursive=True)

        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)

    assert heard
    assert up.returncode == 130
    assert children
    until(lambda: not any(child.is_running() for child in children))
    assert not place.is_supervised()


# -- samples -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 7, 50, 999])
def test_every_sample_event_is_accounted_for(count):
    """What is received is a row, a copy, or broken."""
    _, expected = samples.samples(count, name="n", seed=1, now=NOW)

    assert sum(part.received for part in expected.values()) == count
    for part in expected.values():
        assert part.received == part.rows + part.duplicates + sum(part.quarantined.values())


def test_samples_are_the_same_for_the_same_name_and_seed():
    """A failure can be looked at again."""
    assert samples.samples(300, name="n", seed=1, now=NOW) == samples.samples(300, name="n", seed=1, now=NOW)
    assert samples.samples(300, name="m", seed=1, now=NOW) != samples.samples(300, name="n", seed=1, now=NOW)


def test_samples_go_every_way_and_break_in_every_manner():
    """A thousand of them show what there is."""
    parcels, expected = samples.samples(1000, name="n", seed=1, now=NOW)

    assert set(Counter(parcel.way for parcel in parcels)) == {"door", "kinesis", "aggregated", "file"}
    assert {reason for part in expected.values() for reason in part.quarantined} >= {"not_json", "not_utf8", "user_id_missing", "empty"}
    assert all(part.duplicates and part.conflicting and part.without_id for part in expected.values())
