"""What people are told, and what not, decided from what was seen."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polku import incidents
from polku.incidents import Seen, SourceSeen, Thresholds, Waiting, Watch

NOW = 1_800_000_000_000
MINUTE = 60_000
HOUR = 60 * MINUTE
THRESHOLDS = Thresholds(lag=600, pending=900, unforwarded=900)
DAY = 86_400


def seen(at=NOW, *, away="", rows=0, oldest=0, **source):
    """Return what one look came to, of one source."""
    server = SourceSeen(**{"waiting": (), **source})
    return Seen(at=at, sources={"server": server}, away=away, unforwarded=None if away else rows, oldest_row=oldest)


def waiting(minutes, at=NOW, kept=DAY):
    return (Waiting(place="stream@1/shardId-0", since=at - minutes * MINUTE, kept=kept),)


def batches(at, *minutes):
    return {f"server/{number}": at - age * MINUTE for number, age in enumerate(minutes)}


class Reader:
    """Somebody who reads the channel: looks come in, what is told is marked."""

    def __init__(self):
        self.watch = Watch()
        self.told = []

    def look(self, what, *, slack_takes_it=True):
        """Return the words of this look."""
        self.watch = incidents.update(self.watch, incidents.judge(what, THRESHOLDS, self.watch), what)
        due = incidents.due(self.watch, what.at)
        for announcement in due if slack_takes_it else ():
            self.watch = incidents.mark(self.watch, announcement, what.at)
            self.told.append((announcement.key, announcement.word))
        return [(announcement.key, announcement.word, announcement.level) for announcement in due]


@pytest.fixture
def reader():
    return Reader()


def test_a_pipeline_that_is_well_is_not_news(reader):
    """Silence means well."""
    assert reader.look(seen(waiting=waiting(9), pending=batches(NOW, 1, 14), rows=3, oldest=60)) == []
    assert reader.watch == Watch()


@pytest.mark.parametrize(
    ("what", "key", "level"),
    [
        pytest.param(seen(waiting=waiting(10)), "lag/server", "WARNING", id="lag"),
        pytest.param(seen(waiting=waiting(10, kept=0)), "lag/server", "WARNING", id="a file that nobody takes"),
        pytest.param(seen(waiting=waiting(12 * 60)), "lag/server", "ERROR", id="half of the retention gone"),
        pytest.param(seen(pending=batches(NOW, 3, 15)), "pending/server", "WARNING", id="drained and not loaded"),
        pytest.param(seen(held={"server/1": "String too long"}), "held/server", "ERROR", id="refused by Redshift"),
        pytest.param(seen(waiting=None, lost="not a Checkpoint"), "state/server", "ERROR", id="a checkpoint that cannot be read"),
        pytest.param(seen(rows=2, oldest=900), "slack", "WARNING", id="rows that do not reach Slack"),
    ],
)
def test_what_stands_still_is_told_at_once(reader, what, key, level):
    """Each has its threshold; beyond it there is nothing to wait for."""
    assert reader.look(what) == [(key, "opened", level)]


def test_an_incident_is_told_once_when_it_opens_and_once_when_it_is_over(reader):
    """Sixty minutes are not sixty messages."""
    for minute in range(0, 60, 5):
        at = NOW + minute * MINUTE
        reader.look(seen(at, waiting=waiting(20 + minute, at)))
    reader.look(seen(NOW + HOUR))
    reader.look(seen(NOW + HOUR + 5 * MINUTE))

    assert reader.told == [("lag/server", "opened"), ("lag/server", "over")]
    assert reader.watch.incidents == {}


def test_the_end_of_an_incident_says_how_long_it_lasted(reader):
    """The person on duty writes it down."""
    reader.look(seen(waiting=waiting(20)))
    over = seen(NOW + 95 * MINUTE)

    reader.watch = incidents.update(reader.watch, incidents.judge(over, THRESHOLDS, reader.watch), over)

    [announcement] = incidents.due(reader.watch, over.at)
    assert announcement.text.startswith("Over after 95 min: polku_server has not drained")


def test_an_incident_that_lasts_is_told_again_after_six_hours(reader):
    """Nobody should think that somebody else has mended it."""
    for minute in range(0, 13 * 60, 5):
        at = NOW + minute * MINUTE
        reader.look(seen(at, held={"server/1": "String too long"}))

    assert reader.told == [("held/server", "opened"), ("held/server", "lasts"), ("held/server", "lasts")]


def test_more_batches_that_are_held_back_are_news_and_fewer_are_not(reader):
    """The second may have another cause, and nobody would hear of it for six hours."""
    refused, gone = {"server/1": "String too long"}, {"server/2": "Its raw objects are gone"}
    reader.look(seen(held=refused))

    assert reader.look(seen(NOW + 5 * MINUTE, held={**refused, **gone}), slack_takes_it=False) == [("held/server", "opened", "ERROR")]
    assert reader.look(seen(NOW + 10 * MINUTE, held={**refused, **gone})) == [("held/server", "opened", "ERROR")]
    assert reader.watch.incidents["held/server"].text.startswith(
        "server/1, server/2 are held back: String too long Its raw objects are gone. Find the cause"
    )
    assert reader.look(seen(NOW + 15 * MINUTE, held=gone)) == []
    assert reader.look(seen(NOW + 20 * MINUTE, held={**refused, **gone})) == []
    assert reader.look(seen(NOW + 25 * MINUTE)) == [("held/server", "over", "INFO")]


def test_news_of_more_held_batches_is_not_taken_for_the_first_message(reader):
    """What may be in the channel already is looked up by its id."""
    ids = []
    for held in ({"server/1": "x"}, {"server/1": "x", "server/2": "x"}):
        reader.look(seen(held=held), slack_takes_it=False)
        ids += [announcement.id for announcement in incidents.due(reader.watch, NOW)]
        reader.look(seen(held=held))

    assert len(set(ids)) == 2


def test_lag_that_hovers_at_its_threshold_is_told_once(reader):
    """It is over only where it is clearly below."""
    for look, minutes in enumerate((10, 9, 11, 5, 10, 4)):
        at = NOW + look * 5 * MINUTE
        reader.look(seen(at, waiting=waiting(minutes, at)))

    assert reader.told == [("lag/server", "opened"), ("lag/server", "over")]


def test_a_source_whose_checkpoint_cannot_be_read_opens_and_ends_nothing_else(reader):
    """What it says of itself is unknown, not well."""
    wrong = {"waiting": waiting(20), "pending": batches(NOW, 60), "held": {"server/1": "String too long"}}
    reader.look(seen(**wrong))

    assert reader.look(seen(NOW + 5 * MINUTE, waiting=None, lost="not a Checkpoint")) == [("state/server", "opened", "ERROR")]
    later = NOW + 10 * MINUTE
    assert reader.look(seen(later, **wrong)) == [("state/server", "over", "INFO")]
    assert set(reader.watch.incidents) == {"lag/server", "pending/server", "held/server"}


def test_lag_that_becomes_dangerous_is_news(reader):
    """A warning of ten minutes must not cover the loss that comes."""
    reader.look(seen(waiting=waiting(20)))
    later = NOW + 12 * HOUR

    assert reader.look(seen(later, waiting=waiting(12 * 60 + 20, later))) == [("lag/server", "opened", "ERROR")]
    assert "drops its oldest records in 11 h 40 min" in reader.watch.incidents["lag/server"].text


def test_one_failed_login_is_no_news_and_two_are(reader):
    """A cluster that restarts is back in a minute."""
    assert reader.look(seen(away="connection refused")) == []
    assert reader.look(seen(NOW + 5 * MINUTE)) == []
    reader.look(seen(NOW + 10 * MINUTE, away="connection refused"))

    assert reader.look(seen(NOW + 15 * MINUTE, away="connection refused")) == [("redshift", "opened", "ERROR")]


def test_batches_that_wait_for_redshift_are_no_incident_of_their_own(reader):
    """One message says what is wrong, and one that it is over; batches then have their time to be loaded."""
    for minute in range(0, 60, 5):
        at = NOW + minute * MINUTE
        reader.look(seen(at, away="paused", pending=batches(at, *range(minute + 20))))
    back = NOW + HOUR
    reader.look(seen(back, pending=batches(back, *range(80))))
    reader.look(seen(back + 5 * MINUTE))

    assert reader.told == [("redshift", "opened"), ("redshift", "over")]


def test_batches_that_still_wait_long_after_redshift_is_back_are_an_incident(reader):
    """Then it is not Redshift that holds them up."""
    reader.look(seen(away="paused", pending=batches(NOW, 60)))
    back = NOW + 15 * MINUTE

    assert reader.look(seen(back, pending=batches(back, 75))) == [("pending/server", "opened", "WARNING")]


def test_batches_that_waited_before_redshift_went_away_are_not_over_by_that(reader):
    """What cannot be told now neither opens nor ends."""
    reader.look(seen(pending=batches(NOW, 60)))

    assert reader.look(seen(NOW + 5 * MINUTE, away="paused", pending=batches(NOW, 60))) == []
    assert not reader.watch.incidents["pending/server"].over


def test_a_stream_that_cannot_be_seen_does_not_end_its_lag(reader):
    """No answer is not a good answer."""
    reader.look(seen(waiting=waiting(20)))
    reader.look(seen(NOW + 5 * MINUTE, waiting=None, unreadable="denied"))

    assert reader.look(seen(NOW + 10 * MINUTE, waiting=None, unreadable="denied")) == [("buffer/server", "opened", "ERROR")]
    assert not reader.watch.incidents["lag/server"].over


def test_what_slack_did_not_take_is_told_by_a_later_look_under_the_same_id(reader):
    """The id finds it in the channel, if it arrived after all."""
    first = seen(waiting=waiting(20))
    reader.look(first, slack_takes_it=False)
    [lost] = incidents.due(reader.watch, first.at)
    later = seen(NOW + 5 * MINUTE, waiting=waiting(25))
    reader.watch = incidents.update(reader.watch, incidents.judge(later, THRESHOLDS, reader.watch), later)

    assert [announcement.id for announcement in incidents.due(reader.watch, later.at)] == [lost.id]


def test_an_incident_that_ended_before_slack_came_back_is_told_in_one_message(reader):
    """Its end says what it was."""
    reader.look(seen(waiting=waiting(20)), slack_takes_it=False)

    assert reader.look(seen(NOW + HOUR)) == [("lag/server", "over", "INFO")]
    assert reader.watch.incidents == {}


def test_what_is_kept_can_be_read_again(reader):
    """It lies in the bucket between two looks."""
    reader.look(seen(waiting=waiting(20), held={"server/1": "x"}))

    assert msgspec.json.decode(msgspec.json.encode(reader.watch), type=Watch) == reader.watch


LOOKS = st.lists(
    st.fixed_dictionaries({"lag": st.booleans(), "held": st.booleans(), "away": st.booleans(), "slack": st.booleans()}), max_size=40
)


@settings(deadline=None)
@given(LOOKS)
def test_openings_and_ends_alternate_whatever_happens(looks):
    """Nothing is told twice, and nothing is over that was never there."""
    reader = Reader()
    for number, look in enumerate(looks):
        at = NOW + number * 5 * MINUTE
        held = {"server/1": "x"} if look["held"] else {}
        what = seen(at, waiting=waiting(20, at) if look["lag"] else (), held=held, away="paused" if look["away"] else "")
        reader.look(what, slack_takes_it=look["slack"])

    for key in {key for key, _ in reader.told}:
        words = [word for told, word in reader.told if told == key and word != "lasts"]
        assert "opened opened" not in " ".join(words)


@settings(deadline=None)
@given(LOOKS)
def test_looking_again_at_the_same_changes_nothing(looks):
    """A write whose answer was lost is made again."""
    reader = Reader()
    for number, look in enumerate(looks):
        at = NOW + number * 5 * MINUTE
        what = seen(at, waiting=waiting(20, at) if look["lag"] else (), away="paused" if look["away"] else "")
        reader.look(what, slack_takes_it=look["slack"])
        once = incidents.update(reader.watch, incidents.judge(what, THRESHOLDS, reader.watch), what)
        again = incidents.update(once, incidents.judge(what, THRESHOLDS, once), what)
        assert again == once


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h 0 min"), (200_000, "2 d 7 h")]
)
def test_a_length_of_time_is_said_as_people_say_it(seconds, text):
    """Nobody divides by 3600 at night."""
    assert incidents.duration(seconds) == text
