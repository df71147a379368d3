"""Requests to S3: made again where that decides something, read to their end, and sorted by what to do where they fail."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, BinaryIO

from polku.errors import LostRace, PolkuError, SettingsError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

_WAITS = (0.05, 0.2, 0.5, 1.0)
_DOWNLOADS = 3
_CHUNK = 1 << 20

_PASSING = frozenset({"RequestTimeout", "SlowDown", "TemporaryRedirect", "Throttling", "ThrottlingException"})
_REMEDIES = {
    "AuthorizationHeaderMalformed": "The bucket is in another region; set `region` in parameters.yaml.j2.",
    "InvalidAccessKeyId": "Set the keys of aws_default right.",
    "InvalidToken": "Set the keys of aws_default right.",
    "MethodNotAllowed": "Polku needs conditional writes, copies and deletes, as S3 has them.",
    "NoSuchBucket": "Set `bucket` in parameters.yaml.j2 to one that exists.",
    "NotImplemented": "Polku needs conditional writes, copies and deletes, as S3 has them.",
    "PermanentRedirect": "The bucket is in another region; set `region` in parameters.yaml.j2.",
    "SignatureDoesNotMatch": "Set the keys of aws_default right.",
}
"""Of what only a person can mend; for whatever else is forbidden there is ``_GRANT``, and for KMS ``_KMS``."""
_GRANT = "Grant it to the role of aws_default."
_KMS = "Enable the KMS key that encrypts it, and let the role of aws_default use it."
_HINTS = {
    "ExpiredToken": "A role renews its credentials by itself; fixed ones in aws_default have to be set anew.",
    "RequestTimeTooSkewed": "Set the clock of the worker.",
}
"""Of what passes where workers are kept as they should be, and needs a person where not."""


def ask(operation: Callable[..., Any], **arguments: Any) -> Any:
    """
    Make a request of a boto3 client and return its answer.

    A 409 (ConditionalRequestConflict) says that another write of the object is under way and decides nothing: the
    same request is made again a few times; so is one whose error breaks off, which botocore leaves to us. A 412 is an
    answer and never is.

    Raises:
        LostRace: 412, the object is not the one that the condition names.
        FileNotFoundError: There is no such object (or upload).
        SettingsError: A person must change something: no such bucket, no right, wrong keys, region or KMS key.
        TransientError: S3 does not answer, or not now.
    """
    from botocore import exceptions as boto
    from urllib3.exceptions import HTTPError

    named = arguments.get("CopySource") or arguments
    place = f"s3://{named['Bucket']}/{named.get('Key') or named.get('Prefix') or ''}"
    for wait in (*_WAITS, None):
        try:
            return operation(**arguments)
        except boto.ClientError as error:
            if _status(error) == HTTPStatus.CONFLICT and wait is not None:
                time.sleep(wait)
                continue
            raise _meaning(error, place) from error
        except HTTPError as error:
            if wait is None:
                raise TransientError(f"{place}: {type(error).__name__}: {error!s:.300}") from error
            time.sleep(wait)
        except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
            raise SettingsError(f"{place}: {error}. Set the connection aws_default, or give the worker a role.") from error
        except boto.BotoCoreError as error:
            raise TransientError(f"{place}: {type(error).__name__}: {error!s:.300}") from error
    raise AssertionError  # the last round returned or raised


def download(client: S3Client, bucket: str, key: str, into: BinaryIO) -> str | None:
    """
    Write an object into a file and return its ETag; None where there is no such object.

    An answer that breaks off, or whose checksum is wrong, is asked for again a few times.

    Raises: As ``ask`` does.
    """
    from botocore.exceptions import BotoCoreError
    from urllib3.exceptions import HTTPError

    broken: Exception | None = None
    for _ in range(_DOWNLOADS):
        try:
            answer = ask(client.get_object, Bucket=bucket, Key=key)
        except FileNotFoundError:
            return None
        into.seek(0)
        into.truncate()
        try:
            into.writelines(answer["Body"].iter_chunks(_CHUNK))
        except (BotoCoreError, HTTPError, OSError) as error:
            broken = error
            continue
        return str(answer["ETag"])
    raise TransientError(f"s3://{bucket}/{key} could not be read to its end, {_DOWNLOADS} times: {broken!s:.300}") from broken


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _meaning(error: ClientError, place: str) -> PolkuError | FileNotFoundError:
    """Return the error to raise for what S3 answered."""
    code, status, message = error.response["Error"]["Code"], _status(error), error.response["Error"].get("Message", "")
    text = f"{place}: S3 answered {status} {code} to {error.operation_name}: {message!s:.300}".rstrip(".: ")
    remedy = _REMEDIES.get(code) or (_KMS if code.startswith("KMS.") else "")
    if not remedy and status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        remedy = _GRANT
    if code in _HINTS or code in _PASSING:
        return TransientError(f"{text}. {_HINTS.get(code, '')}".rstrip())
    if remedy:
        return SettingsError(f"{text}. {remedy}")
    if status == HTTPStatus.PRECONDITION_FAILED:
        return LostRace(text)
    return FileNotFoundError(text) if status == HTTPStatus.NOT_FOUND else TransientError(text)
