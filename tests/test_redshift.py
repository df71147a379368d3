"""What an error of Redshift means to a load."""

from __future__ import annotations

import pytest
from redshift_connector.error import InterfaceError, OperationalError, ProgrammingError

from polku.errors import FailedLoad, RefusedLoad, SettingsError, StaleLoad, TransientError
from polku.redshift import meaning, sorted_errors

CASES = [
    (
        {"C": "22P02", "M": 'invalid input syntax for integer: "StaleLoad: the books hold a newer transform of x"'},
        StaleLoad,
        "StaleLoad: the books",
    ),
    ({"C": "XX000", "M": "Invalid digit", "D": "Value 'CountMismatch: 3 rows came, 4 were staged'"}, RefusedLoad, "CountMismatch: 3 rows"),
    (
        {"C": "XX000", "M": "Load into table 'staged' failed.  Check 'stl_load_errors' system table for details."},
        RefusedLoad,
        "stl_load_errors",
    ),
    ({"C": "22001", "M": "value too long for type character varying(256)"}, RefusedLoad, "too long"),
    ({"C": "28000", "M": "password authentication failed"}, SettingsError, "REDSHIFT_"),
    ({"C": "42P01", "M": 'relation "polku_poc.server" does not exist'}, SettingsError, "polku_migrate"),
    ({"C": "XX000", "M": "1023"}, TransientError, "1023"),
    ({"C": "XX000", "M": "S3ServiceException:Access Denied,Status 403"}, TransientError, "403 Let the role in `iam_role` read staged/"),
    ({"C": "XX000", "M": "User arn:x is not authorized to assume IAM Role arn:y"}, TransientError, "arn:y Attach the role"),
    ({"C": "XX000", "M": "Assert"}, FailedLoad, "Assert"),
    ({"C": "57014", "M": "Query (17) cancelled on user's request"}, FailedLoad, "cancelled"),
    ({"C": "57P01", "M": "terminating connection due to administrator command"}, TransientError, "terminating"),
    ({"C": "53300", "M": "too many connections"}, TransientError, "too many"),
]


@pytest.mark.parametrize(("fields", "kind", "words"), CASES, ids=[f"{case[0]['C']}-{case[0]['M'][:20]}" for case in CASES])
def test_an_error_is_sorted_by_what_to_do_next(fields, kind, words):
    """A batch at fault is held back, a passing fault is tried again, a wrong setting calls a person."""
    error = meaning(ProgrammingError({"S": "ERROR", **fields}))

    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize(
    "broken", [InterfaceError("communication error"), OperationalError("timed out"), ConnectionResetError(104, "reset")]
)
def test_a_broken_connection_is_tried_again(broken):
    """Whether it committed shows then: running a load twice changes nothing."""
    with pytest.raises(TransientError), sorted_errors():
        raise broken


def test_a_redshift_that_never_answers_says_what_to_look_at():
    """It takes the connection and is silent."""
    with pytest.raises(TransientError, match=r"did not answer in time: timed out\. Check host and port"), sorted_errors():
        raise TimeoutError("timed out")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InterfaceError("communication error", OSError(-2, "Name or service not known")), "Name or service not known Check host and port"),
        (OperationalError("connection time out", TimeoutError("timed out")), "timed out Check host and port"),
        (InterfaceError("Server refuses SSL"), "Set `sslmode`"),
    ],
)
def test_a_login_that_does_not_work_says_what_to_look_at(error, words):
    """It may pass by itself, or it may be the setting."""
    found = meaning(error)

    assert type(found) is TransientError
    assert words in str(found)


def test_what_is_not_of_redshift_passes_through():
    """A mistake of ours must not be taken for an outage."""
    with pytest.raises(KeyError), sorted_errors():
        raise KeyError("x")
