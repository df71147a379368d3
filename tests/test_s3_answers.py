"""s3_answers.py against a server that refuses as S3 does, and one whose answers break off."""

from __future__ import annotations

import io

import pytest

from local.http_server import LoopbackServer, Response
from polku import s3_answers
from polku.errors import LostRace, SettingsError, TransientError
from tests.test_s3_buffer import Trouble, client_of


def put(client):
    return s3_answers.ask(client.put_object, Bucket="b", Key="state/x", Body=b"1")


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (503, "SlowDown", TransientError, ""),
        (500, "InternalError", TransientError, ""),
        (400, "RequestTimeout", TransientError, ""),
        (400, "BadDigest", TransientError, ""),
        (400, "ExpiredToken", TransientError, "aws_default have to be set anew"),
        (403, "RequestTimeTooSkewed", TransientError, "clock of the worker"),
        (412, "PreconditionFailed", LostRace, ""),
        (404, "NoSuchKey", FileNotFoundError, ""),
        (404, "NoSuchBucket", SettingsError, "Set `bucket`"),
        (400, "AuthorizationHeaderMalformed", SettingsError, "set `region`"),
        (403, "AccessDenied", SettingsError, "Grant it"),
        (403, "InvalidAccessKeyId", SettingsError, "keys of aws_default"),
        (403, "SignatureDoesNotMatch", SettingsError, "keys of aws_default"),
        (400, "KMS.DisabledException", SettingsError, "KMS key"),
        (501, "NotImplemented", SettingsError, "conditional"),
    ],
)
def test_an_error_is_sorted_by_what_to_do_next(status, code, kind, words):
    """Who must act finds in the message what is refused, where, and what to set."""
    with Trouble(status, code) as server:
        client = client_of(server)
        with pytest.raises(kind, match=f"^s3://b/state/x: S3 answered {status} {code} to PutObject.*{words}"):
            put(client)
        client.close()


def test_a_conflict_is_asked_again_and_a_lost_race_is_not():
    """409 decides nothing, 412 does."""
    asked = {}
    for status, code, kind in ((409, "ConditionalRequestConflict", TransientError), (412, "PreconditionFailed", LostRace)):
        with Trouble(status, code) as server:
            client = client_of(server)
            with pytest.raises(kind):
                put(client)
            client.close()
        asked[status] = len(server.requests)

    assert asked == {409: 5, 412: 1}


class Elsewhere(Trouble):
    """An S3 that redirects, and knows no better place."""

    def handle(self, request):
        """Redirect; botocore asks by HEAD which region is the right one."""
        return Response() if request.method == "HEAD" else super().handle(request)


@pytest.mark.parametrize(
    ("status", "code", "kind"), [(301, "PermanentRedirect", SettingsError), (307, "TemporaryRedirect", TransientError)]
)
def test_a_redirect_that_leads_nowhere_ends(status, code, kind):
    """A bucket in another region is a matter of `region`; the name of a new bucket takes its time."""
    with Elsewhere(status, code) as server:
        client = client_of(server)
        with pytest.raises(kind, match=f"S3 answered {status} {code}"):
            put(client)
        client.close()


class Breaking(LoopbackServer):
    """An S3 whose first answers are not what they should be."""

    def __init__(self, answers):
        super().__init__()
        self.answers = answers

    def handle(self, request):
        """Answer with an object of ten bytes."""
        body, checksum = self.answers.pop(0)
        return Response(body=body, headers={"ETag": '"1"', "x-amz-checksum-crc32": checksum})


WHOLE = (b"0123456789", "poTHxg==")
DAMAGED = (b"01234_6789", "poTHxg==")


def test_an_object_whose_bytes_are_not_the_ones_written_is_asked_for_again():
    """S3 keeps a checksum with each object, and gives it back with the bytes."""
    with Breaking([DAMAGED, DAMAGED, WHOLE, DAMAGED, DAMAGED, DAMAGED]) as server:
        client = client_of(server)
        into = io.BytesIO()

        assert s3_answers.download(client, "b", "raw/x", into) == '"1"'
        assert into.getvalue() == WHOLE[0]
        with pytest.raises(TransientError, match=r"s3://b/raw/x could not be read to its end, 3 times: .*checksum"):
            s3_answers.download(client, "b", "raw/x", into)
        client.close()


def test_an_object_that_breaks_off_is_asked_for_again():
    """Half an object is never taken for the whole."""
    with Breaking([WHOLE] * 6) as server:
        client = client_of(server)
        into = io.BytesIO()
        server.fault("half", 2)

        assert s3_answers.download(client, "b", "raw/x", into) == '"1"'
        assert into.getvalue() == WHOLE[0]
        server.fault("half", 3)
        with pytest.raises(TransientError, match="could not be read to its end, 3 times"):
            s3_answers.download(client, "b", "raw/x", into)
        client.close()


def test_an_error_that_breaks_off_is_asked_for_again():
    """Half an error says nothing: neither that there is no such object nor that there is one."""
    with Trouble(404, "NoSuchKey") as server:
        client = client_of(server)
        server.fault("half", 2)

        assert s3_answers.download(client, "b", "state/x", io.BytesIO()) is None
        assert len(server.requests) == 3
        client.close()
