"""s3_buffer.py against moto's S3, and against a server that refuses as S3 does when it is in trouble."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import boto3
import msgspec
import pytest
from botocore.config import Config

from local.aws import AwsServer
from local.http_server import LoopbackServer, Response
from polku import s3_buffer
from polku.batches import BufferFile
from polku.errors import SettingsError, TransientError
from tests.crash.proxy import CUT, Doors, s3_error

PREFIX = "buffer/server/"
MANY = {"leave": (), "max_files": 1000, "max_bytes": 1 << 30}

ODD_NAMES = [
    "a b.json",
    "ünïcode-é.json",
    "100%.json",
    "%41.json",
    "x+y.json",
    "what?.json",
    "a&b=c.json",
    "q'\"<>.json",
    "semi;colon,comma.json",
    "\U0001f600.json",
    "#hash.json",
    "back\\slash.json",
    "deep/er//double.json",
    "*.json",
    "..json",
    "~tilde^`|{}[].json",
]


@pytest.fixture(scope="module")
def s3():
    with AwsServer() as aws:
        client = aws.client("s3")
        yield client
        client.close()


@pytest.fixture
def bucket(s3):
    name = f"polku-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return name


@pytest.fixture(scope="module")
def large():
    return b"".join(b"%020d" % n for n in range(300_000))


def put(s3, bucket, *names, body=b"{}", prefix=PREFIX):
    for name in names:
        s3.put_object(Bucket=bucket, Key=prefix + name, Body=body)


def names(files):
    return [file.key.removeprefix(PREFIX) for file in files]


def listed(s3, bucket, **more):
    return s3_buffer.list_files(s3, bucket, PREFIX, **{**MANY, **more})


def body(s3, bucket, key):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


class Trouble(LoopbackServer):
    """An S3 that answers every request with one error."""

    def __init__(self, status, code):
        super().__init__()
        self.status, self.code = status, code
        self.requests = []

    def handle(self, request):
        """Refuse."""
        self.requests.append(request)
        error = f"<Error><Code>{self.code}</Code><Message>Reduce your rate</Message></Error>"
        return Response(status=self.status, body=error.encode(), headers={"Content-Type": "application/xml"})


def client_of(server):
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "eu-west-1"}
    config = Config(**{**s3_buffer.CONFIG, "retries": {"total_max_attempts": 1}}, s3={"addressing_style": "path"})
    return boto3.client("s3", endpoint_url=server.url, config=config, **keys)


FILE = BufferFile(key=PREFIX + "x", etag='"1"', size=1, modified=0)
CALLS = [
    pytest.param(lambda c: s3_buffer.list_files(c, "b", PREFIX, **MANY), id="list"),
    pytest.param(lambda c: s3_buffer.copy_file(c, "b", FILE, "raw/1"), id="copy"),
    pytest.param(lambda c: s3_buffer.copy_file(c, "b", FILE, "raw/1", copy_bytes=0), id="copy in parts"),
    pytest.param(lambda c: s3_buffer.delete_file(c, "b", FILE), id="delete"),
]


# Listing


def test_files_are_listed_in_the_order_of_their_names_with_what_identifies_them(s3, bucket):
    """Producers put the time first; key and ETag together are the file."""
    put(s3, bucket, "2026-11-24T06.json", "2026-11-24T05.json", body=b'{"a":1}')

    files = listed(s3, bucket)

    head = s3.head_object(Bucket=bucket, Key=PREFIX + "2026-11-24T05.json")
    assert names(files) == ["2026-11-24T05.json", "2026-11-24T06.json"]
    assert files[0] == BufferFile(PREFIX + "2026-11-24T05.json", head["ETag"], 7, int(head["LastModified"].timestamp() * 1000))


def test_no_more_files_are_listed_than_a_run_takes(s3, bucket):
    """With 50,000 files waiting, a run asks for the few that it takes, in one request."""
    put(s3, bucket, *[f"{n:03}.json" for n in range(30)])
    asked = []
    s3.meta.events.register("before-parameter-build.s3.ListObjectsV2", lambda params, **_: asked.append(params), unique_id="count")

    files = listed(s3, bucket, max_files=5)

    s3.meta.events.unregister("before-parameter-build.s3.ListObjectsV2", unique_id="count")
    assert names(files) == [f"{n:03}.json" for n in range(5)]
    assert [call["MaxKeys"] <= 6 for call in asked] == [True]
    assert {call["Prefix"] for call in asked} == {PREFIX}


def test_listing_goes_on_over_pages_until_it_has_enough(s3, bucket):
    """Directories fill the first pages."""
    put(s3, bucket, *[f"a{n}/" for n in range(12)], body=b"")
    put(s3, bucket, *[f"b{n}.json" for n in range(4)])

    assert names(listed(s3, bucket, max_files=3)) == ["b0.json", "b1.json", "b2.json"]


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        pytest.param(9, ["1"], id="smaller than the first file: at least one a run"),
        pytest.param(10, ["1"], id="exactly the first"),
        pytest.param(29, ["1"], id="the second would pass it"),
        pytest.param(30, ["1", "2"], id="exactly two; the small third one does not jump the queue"),
        pytest.param(31, ["1", "2", "3"], id="all"),
    ],
)
def test_the_bound_on_bytes_lies_between_files(s3, bucket, max_bytes, expected):
    """A file is copied whole; a large one must not stand in the way for ever."""
    for name, size in (("1", 10), ("2", 20), ("3", 1)):
        put(s3, bucket, name, body=b"x" * size)

    assert names(listed(s3, bucket, max_bytes=max_bytes)) == expected


def test_files_that_a_pending_batch_took_are_left_out_until_they_are_replaced(s3, bucket):
    """The same name with other bytes is another delivery."""
    put(s3, bucket, "a", "b", body=b"1")
    taken = listed(s3, bucket)
    put(s3, bucket, "a", body=b"2")

    files = listed(s3, bucket, leave=taken)

    assert names(files) == ["a"]
    assert names(listed(s3, bucket, leave=taken, max_files=1)) == ["a"]
    assert files[0].etag != taken[0].etag


def test_files_left_out_do_not_count_as_taken(s3, bucket):
    """Ten files that could not be deleted yet must not hide the eleventh."""
    put(s3, bucket, *[f"{n:02}" for n in range(11)])
    taken = listed(s3, bucket, max_files=10)

    assert names(listed(s3, bucket, leave=taken, max_files=1)) == ["10"]


def test_directories_are_no_files_but_empty_files_are(s3, bucket):
    """The console makes empty objects whose key ends in a slash; an empty file is a delivery of nothing and is cleared away."""
    put(s3, bucket, "", "year=2026/", "empty.json", body=b"")
    put(s3, bucket, "odd/", body=b"{}")

    assert names(listed(s3, bucket)) == ["empty.json", "odd/"]


def test_a_prefix_takes_no_neighbours_files(s3, bucket):
    """Files are deleted once they are taken: buffer/server must not take buffer/server-old/x."""
    put(s3, bucket, "1")
    put(s3, bucket, "2", prefix="buffer/server-old/")

    assert names(s3_buffer.list_files(s3, bucket, "buffer/server", **MANY)) == ["1"]


@pytest.mark.parametrize("prefix", ["", "/"])
def test_the_whole_bucket_is_no_buffer(s3, bucket, prefix):
    """It would take, and delete, the archive."""
    with pytest.raises(SettingsError, match="buffer prefix is"):
        s3_buffer.list_files(s3, bucket, prefix, **MANY)


def test_archived_files_are_left_where_they_are(s3, bucket):
    """They cannot be read without a restore, and must not stop the others."""
    put(s3, bucket, "2")
    s3.put_object(Bucket=bucket, Key=PREFIX + "1", Body=b"{}", StorageClass="GLACIER")

    assert names(listed(s3, bucket)) == ["2"]


# Copying and deleting


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_of_any_name_is_copied_and_deleted(s3, bucket, name, parts):
    """Names are the producers'."""
    put(s3, bucket, name, body=name.encode())
    (file,) = listed(s3, bucket)

    copied = s3_buffer.copy_file(s3, bucket, file, "raw/server/x", **({"copy_bytes": 0} if parts else {}))
    s3_buffer.delete_file(s3, bucket, file)

    assert file.key == PREFIX + name
    assert copied
    assert body(s3, bucket, "raw/server/x") == name.encode()
    assert listed(s3, bucket) == []


def test_a_large_file_is_copied_in_parts_byte_for_byte(s3, bucket):
    """One request copies 5 GiB at most, and lasts long before that."""
    data = bytes(range(256)) * (11 << 12)
    put(s3, bucket, "large", body=data)
    (file,) = listed(s3, bucket)

    copied = s3_buffer.copy_file(s3, bucket, file, "raw/server/large", copy_bytes=5 << 20, part_bytes=5 << 20)

    assert copied
    assert body(s3, bucket, "raw/server/large") == data


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_a_file_that_was_replaced_since_it_was_listed_is_not_copied(s3, bucket, parts):
    """What was listed is what is committed; the new file is the next run's. No upload is left open."""
    put(s3, bucket, "a", body=b"1")
    (file,) = listed(s3, bucket)
    put(s3, bucket, "a", body=b"2")

    assert not s3_buffer.copy_file(s3, bucket, file, "raw/server/a", **({"copy_bytes": 0} if parts else {}))
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="raw/")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_a_file_that_is_gone_since_it_was_listed_is_not_copied(s3, bucket, parts):
    """The producer took it back, or another run has delivered it."""
    put(s3, bucket, "a")
    (file,) = listed(s3, bucket)
    s3.delete_object(Bucket=bucket, Key=file.key)

    assert not s3_buffer.copy_file(s3, bucket, file, "raw/server/a", **({"copy_bytes": 0} if parts else {}))


def test_a_file_that_was_replaced_is_not_deleted(s3, bucket):
    """Its new bytes were taken by nobody."""
    put(s3, bucket, "a", body=b"1")
    (file,) = listed(s3, bucket)
    put(s3, bucket, "a", body=b"2")

    s3_buffer.delete_file(s3, bucket, file)

    assert body(s3, bucket, file.key) == b"2"


def test_deleting_twice_is_deleting_once(s3, bucket):
    """A commit that lost its answer deletes again."""
    put(s3, bucket, "a")
    (file,) = listed(s3, bucket)

    s3_buffer.delete_file(s3, bucket, file)
    s3_buffer.delete_file(s3, bucket, file)

    assert listed(s3, bucket) == []


def test_a_copy_leaves_the_producers_tags_behind(s3, bucket):
    """Copying them needs rights on tags that nobody grants for that."""
    s3.put_object(Bucket=bucket, Key=PREFIX + "a", Body=b"{}", Tagging="team=web")
    (file,) = listed(s3, bucket)

    s3_buffer.copy_file(s3, bucket, file, "raw/server/a")

    assert s3.get_object_tagging(Bucket=bucket, Key="raw/server/a")["TagSet"] == []


# S3 in trouble


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "SlowDown"),
        (500, "InternalError"),
        (400, "RequestTimeout"),
        (403, "RequestTimeTooSkewed"),
    ],
)
def test_what_may_pass_is_tried_again_by_airflow(call, status, code):
    """After botocore's own tries."""
    with Trouble(status, code) as server:
        client = client_of(server)
        with pytest.raises(TransientError, match=f"s3://b/.* answered {status} {code}"):
            call(client)
        client.close()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchBucket")])
def test_what_only_a_person_can_mend_is_not_tried_again(call, status, code):
    """A missing right or bucket; least of all is it taken for a file that is gone."""
    with Trouble(status, code) as server:
        client = client_of(server)
        with pytest.raises(SettingsError, match=f"s3://b/.* answered {status} {code}"):
            call(client)
        client.close()


@pytest.mark.parametrize("call", CALLS)
def test_a_cut_connection_may_pass(call):
    """Whether the request took effect or not: each of them may be sent twice."""
    with Trouble(503, "SlowDown") as server:
        server.fault("cut_after", 5)
        client = client_of(server)
        with pytest.raises(TransientError, match="ConnectionClosedError"):
            call(client)
        client.close()


def test_every_copy_and_delete_is_conditional_on_what_was_listed():
    """Also when moto should one day not look: what goes over the wire names the ETag."""
    with Trouble(503, "SlowDown") as server:
        client = client_of(server)
        for call in (lambda: s3_buffer.copy_file(client, "b", FILE, "raw/1"), lambda: s3_buffer.delete_file(client, "b", FILE)):
            with pytest.raises(TransientError):
                call()
        client.close()

    copy, delete = server.requests
    assert copy.headers["x-amz-copy-source-if-match"] == FILE.etag
    assert delete.headers["if-match"] == FILE.etag


def test_a_copy_in_parts_that_fails_is_aborted(s3, bucket):
    """An upload left open is paid for and seen by nobody."""
    put(s3, bucket, "a", body=b"1" * 10)
    (file,) = listed(s3, bucket)
    longer = msgspec.structs.replace(file, size=20 << 20)

    with pytest.raises((TransientError, SettingsError)):
        s3_buffer.copy_file(s3, bucket, longer, "raw/server/a", copy_bytes=0, part_bytes=5 << 20)

    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


STEPS = ["begin", "first part", "second part", "complete"]
"""The requests of a copy in two parts."""


class FailingAt:
    """A judge that does something to the nth request of a copy, and in the end to all from then on."""

    def __init__(self, step, side, verdict, *, for_good):
        self.step, self.side, self.verdict, self.for_good = step, side, verdict, for_good
        self.seen = []

    def __call__(self, side, request):
        """Judge a request."""
        if side == "before":
            self.seen.append(str(request))
        here = [name for name in self.seen if "raw/1" in name]
        if len(here) == self.step + 1 and side == self.side:
            return self.verdict
        return self.verdict if self.for_good and len(here) > self.step + 1 and side == "before" else None


ENDS = {
    "dies": ("after", CUT, True),
    "answer lost": ("after", CUT, False),
    "slow down": ("before", s3_error(503, "SlowDown"), False),
    "aborted by somebody": ("before", s3_error(404, "NoSuchUpload"), False),
}


@pytest.mark.parametrize(
    ("step", "side", "verdict", "for_good"),
    [
        pytest.param(step, *end, id=f"{name} at {STEPS[step]}")
        for name, end in ENDS.items()
        for step in range(len(STEPS))
        if step or name != "aborted by somebody"
    ],
)
def test_a_copy_in_parts_that_ends_anywhere_leaves_the_file_and_no_half_of_it(s3, bucket, large, step, side, verdict, for_good):
    """A copy is whole or is not there; the file waits, and the next try takes it under another name."""
    s3.put_object(Bucket=bucket, Key=PREFIX + "a", Body=large)
    (file,) = listed(s3, bucket)
    judge = FailingAt(step, side, verdict, for_good=for_good)
    port = int(s3.meta.endpoint_url.rpartition(":")[2])
    doors = Doors(SimpleNamespace(name="copy"), {"s3": ("127.0.0.1", port)}, judge)
    client = client_of(SimpleNamespace(url=f"http://127.0.0.1:{doors.ports['s3']}"))

    try:
        copied = s3_buffer.copy_file(client, bucket, file, "raw/1", copy_bytes=0, part_bytes=5 << 20)
    except TransientError:
        copied = False
    client.close()
    doors.close()

    found = s3.list_objects_v2(Bucket=bucket, Prefix="raw/").get("Contents", [])
    assert [entry["Size"] for entry in found] in ([[len(large)]] if copied else [[], [len(large)]])
    assert listed(s3, bucket) == [file]
    assert for_good or step == 0 or "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert s3_buffer.copy_file(s3, bucket, file, "raw/2", copy_bytes=0, part_bytes=5 << 20)
    assert body(s3, bucket, "raw/2") == large
