"""
What moto's S3 does not look at: the conditions of a copy on its source (x-amz-copy-source-if-match and -if-none-match).

A WSGI application around moto's. The condition is looked at before and after the copy, so that a source replaced in
between is refused too; the copy is then left behind, which S3 would not do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_REFUSAL = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>PreconditionFailed</Code>'
    b"<Message>At least one of the pre-conditions you specified did not hold</Message>"
    b"<Condition>x-amz-copy-source-If-Match</Condition></Error>"
)


class CopyConditions:
    """Refuses, with 412, a CopyObject or UploadPartCopy whose source is not the one that the request names."""

    def __init__(self, application: Callable[..., Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request."""
        wanted = environ.get("HTTP_X_AMZ_COPY_SOURCE_IF_MATCH", ""), environ.get("HTTP_X_AMZ_COPY_SOURCE_IF_NONE_MATCH", "")
        if not any(wanted):
            return self._application(environ, start_response)
        source = environ.get("HTTP_X_AMZ_COPY_SOURCE", "")
        if not _holds(source, *wanted):
            return _refuse(environ, start_response)
        answer: list[Any] = []
        body = list(self._application(environ, lambda *arguments: answer.append(arguments)))
        if not _holds(source, *wanted):
            return _refuse(environ, start_response)
        start_response(*answer[-1])
        return body


def _refuse(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("412 Precondition Failed", [("Content-Type", "application/xml"), ("Content-Length", str(len(_REFUSAL)))])
    return [_REFUSAL]


def _holds(source: str, match: str, none_match: str) -> bool:
    """Tell whether the source is as wanted; one that does not exist is moto's to refuse."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    path, _, version = source.lstrip("/").partition("?versionId=")
    bucket, _, key = unquote(path).partition("/")
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    found = backend.get_object(bucket, key, version_id=version or None) if bucket in backend.buckets else None
    if found is None:
        return True
    etag = found.etag.strip('"')
    return (not match or match == "*" or etag in _etags(match)) and (not none_match or etag not in _etags(none_match))


def _etags(header: str) -> set[str]:
    return {etag.strip().strip('"') for etag in header.split(",")}
