"""Requests to S3-compatible storage: one client a process, bounded retries, errors in one sentence.

Endpoint, region and keys come from the usual environment and profiles (AWS_ENDPOINT_URL, AWS_PROFILE, ...) and from
nowhere else: nothing here can be pickled or logged with a key in it. This is the one place where boto3 is.
"""

import errno
import importlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from random import SystemRandom
from typing import Any, TypeVar
from urllib.parse import urlsplit

from botocore import exceptions as aws  # type: ignore[import-untyped]

T = TypeVar("T")

PATIENCE = 120.0  # seconds for which a server that has answered before may be away; then the error is raised
FIRST_PATIENCE = 20.0  # the same for one that has not answered this process yet: the address may be wrong
LONGEST_PAUSE = 5.0  # seconds between two tries
CONNECTIONS = 32  # of a process

_MISSING = {"NoSuchKey", "NotFound", "404"}
_REFUSED = {
    "AccessDenied", "AllAccessDisabled", "ExpiredToken", "Forbidden", "InvalidAccessKeyId", "InvalidToken",
    "RequestTimeTooSkewed", "SignatureDoesNotMatch", "UnauthorizedAccess", "401", "403",
}  # fmt: skip
_BUSY = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown", "TooManyRequests", "429"}
_NO_KEYS = (
    aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError, aws.ProfileNotFound,
    aws.TokenRetrievalError, aws.UnauthorizedSSOTokenError, aws.SSOTokenLoadError, aws.ConfigNotFound,
    aws.ConfigParseError,
)  # fmt: skip
_AWAY = (aws.ConnectionError, aws.HTTPClientError, aws.IncompleteReadError)  # time-outs, answers that broke off
_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


def _sentence(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"


class ObjectNotFound(FileNotFoundError):
    """No such object."""

    __str__ = _sentence


class BucketNotFound(FileNotFoundError):
    """No such bucket."""

    __str__ = _sentence


class ObjectExists(FileExistsError):
    """An object that was to be made by one process only is there already."""

    __str__ = _sentence


class ObjectChanged(OSError):
    """An object is no longer what it was: it was replaced since it was looked at."""

    __str__ = _sentence


class StorageRefused(PermissionError):
    """There are no keys, or they may not do this."""

    __str__ = _sentence


class StorageAway(ConnectionError):
    """The server did not answer for as long as we waited."""

    __str__ = _sentence


class StorageError(OSError):
    """Anything else that the server or the client library says."""

    __str__ = _sentence


AT_FAULT = (BucketNotFound, StorageAway, StorageRefused)  # the storage as a whole, whatever was asked for


class _Held:
    """The client of this process, made when it is first needed and again when the environment says otherwise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[object, Any] | None = None
        self.has_answered = False

    def client(self) -> Any:
        """The client; OSError where keys, profiles or the address cannot be used."""
        stamp = hash((os.getpid(), *sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))
        with self._lock:
            if self._made is None or self._made[0] != stamp:
                self._made, self.has_answered = None, False
                try:
                    self._made = (stamp, _new_client())
                except _NO_KEYS as error:
                    told = f"cannot be used ({type(error).__name__}); {_KEYS}"
                    raise StorageRefused(errno.EACCES, told, "S3") from None
                except (aws.BotoCoreError, ValueError) as error:
                    told = f"is not set up well ({type(error).__name__}); correct AWS_ENDPOINT_URL or the AWS profile"
                    raise StorageError(errno.EINVAL, told, "S3") from None
            return self._made[1]

    @property
    def address(self) -> str:
        """Of the server, without what may be secret in it."""
        found = urlsplit(self._made[1].meta.endpoint_url if self._made else "")
        return f"{found.scheme}://{found.hostname}{f':{found.port}' if found.port else ''}" if found.hostname else "S3"


_held = _Held()


def _new_client() -> Any:
    # Not at the top: a fifth of a second and 20 MB in every process, also where no object is ever read.
    boto3, config = importlib.import_module("boto3"), importlib.import_module("botocore.config")
    inner = importlib.import_module("botocore.session").get_session()
    session = boto3.session.Session(botocore_session=inner)
    options: dict[str, Any] = {
        "connect_timeout": 5,
        "read_timeout": 60,
        "max_pool_connections": CONNECTIONS,
        "tcp_keepalive": True,
        "retries": {
            "mode": inner.get_config_variable("retry_mode") or "standard",
            "total_max_attempts": int(inner.get_config_variable("max_attempts") or 4),
        },
        # Checksums in trailers are newer than many servers; parts are signed or go through TLS.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    client = session.client("s3", config=config.Config(**options))
    chosen = "addressing_style" in (inner.get_scoped_config().get("s3") or {})
    if chosen or (urlsplit(client.meta.endpoint_url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return client
    # A bucket as a part of the host name needs DNS that servers of one's own seldom have.
    return session.client("s3", config=config.Config(**options, s3={"addressing_style": "path"}))


def ask(where: object, action: Callable[[Any], T]) -> T:
    """The answer of ``action(client)``, which is tried again with growing pauses while the server cannot answer.

    ``action`` may run several times. What goes wrong in the end is one of the errors above, as a sentence about
    ``where``. Nothing of the request is in it.
    """
    client, pause = _held.client(), 0.25
    start = time.monotonic()
    while True:
        try:
            answer = action(client)
        except (aws.ClientError, aws.BotoCoreError) as error:
            _held.has_answered |= 0 < _status(error) < 500
            waited = time.monotonic() - start
            if not _may_pass(error) or waited > (PATIENCE if _held.has_answered else FIRST_PATIENCE):
                raise _told(where, error, waited) from None
        else:
            _held.has_answered = True
            return answer
        time.sleep(pause * SystemRandom().uniform(0.5, 1.0))
        pause = min(2 * pause, LONGEST_PAUSE)


def body_of(answer: Any) -> bytes:
    """The whole body of an answer to GetObject, or an error that ``ask`` knows."""
    with closing(answer["Body"]) as body:  # its own ``with`` hands out the raw stream, whose errors are other ones
        data: bytes = body.read()
    return data


def code_of(error: BaseException) -> str:
    """S3's word for what went wrong, such as "NoSuchKey" or "412"; "" where it said nothing."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _status(error: BaseException) -> int:
    response = getattr(error, "response", None) or {}
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _may_pass(error: Exception) -> bool:
    """Whether the same request may be answered a little later."""
    if isinstance(error, aws.SSLError):
        return False
    if isinstance(error, aws.ClientError):
        code = code_of(error)
        return (_status(error) >= 500 and code != "NotImplemented") or code in _BUSY or "Throttl" in code
    return isinstance(error, _AWAY)


def _told(where: object, error: Exception, waited: float) -> OSError:
    """The error as we say it, without its own words: those may hold keys or whole requests."""
    name, code, status = str(where), code_of(error), _status(error)
    if code == "NoSuchBucket":
        return BucketNotFound(errno.ENOENT, "no such bucket; make it, or correct the uri", name)
    if code in _MISSING or status == 404:
        return ObjectNotFound(errno.ENOENT, "no such object", name)
    if status == 412 or code == "PreconditionFailed":
        return ObjectChanged(errno.ESTALE, "was replaced by another process; type the same command again", name)
    if isinstance(error, _NO_KEYS):
        return StorageRefused(errno.EACCES, f"no keys for S3 were found ({type(error).__name__}); {_KEYS}", name)
    if code in _REFUSED or status in (401, 403):
        said = f"{code or status}, from {_held.address}"
        return StorageRefused(
            errno.EACCES,
            f"the server refuses this ({said}); {_KEYS}, of somebody who may read, write, delete and list here",
            name,
        )
    said = f"{_held.address} ({code or type(error).__name__})"
    if isinstance(error, _AWAY) or _may_pass(error):
        _held.has_answered = False  # whatever is asked next need not wait that long again
        told = f"no answer for {waited:.0f} s from {said}; start the server, or correct AWS_ENDPOINT_URL"
        return StorageAway(errno.EHOSTUNREACH, told, name)
    told = f"not to be had from {said}; correct the uri, AWS_ENDPOINT_URL or AWS_DEFAULT_REGION"
    return StorageError(errno.EIO, told, name)
