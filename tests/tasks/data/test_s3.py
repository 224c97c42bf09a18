"""Requests are tried again for a bounded time, and what goes wrong is one sentence without a secret in it."""

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.data import s3
from tasks.data.objects import S3Path
from tests.tasks.data.answering import SECRET, Answer, Answering, error, starting

PATH = S3Path("bucket", "a/b.json")
HOME = Path(__file__).resolve().parents[3]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Answering]]:
    """Starts a server that gives these answers, and lets this process talk to it; patience is short."""
    monkeypatch.setattr(s3, "FIRST_PATIENCE", 0.2)
    monkeypatch.setattr(s3, "PATIENCE", 0.2)

    with starting(monkeypatch) as start:
        yield start


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, answering: object) -> None:
    """Patience as in earnest."""
    monkeypatch.setattr(s3, "FIRST_PATIENCE", 20.0)
    monkeypatch.setattr(s3, "PATIENCE", 20.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (error(404, "NoSuchKey"), FileNotFoundError, "s3://bucket/a/b.json: no such object"),
        (error(404, "NoSuchBucket"), FileNotFoundError, "no such bucket; make it, or correct the uri"),
        (error(403, "AccessDenied"), PermissionError, "the server refuses this (AccessDenied, from http://127.0.0.1:"),
        (error(403, "SignatureDoesNotMatch"), PermissionError, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"),
        (error(400, "ExpiredToken"), PermissionError, "the server refuses this (ExpiredToken"),
        (error(412, "PreconditionFailed"), s3.ObjectChanged, "was replaced by another process"),
        (error(400, "InvalidRequest"), s3.StorageError, "(InvalidRequest); correct the uri, AWS_ENDPOINT_URL"),
        (error(301, "PermanentRedirect"), s3.StorageError, "AWS_DEFAULT_REGION"),
        (error(503, "SlowDown"), ConnectionError, "(SlowDown); start the server, or correct AWS_ENDPOINT_URL"),
    ],
)
def test_what_the_server_refuses_is_one_sentence_without_its_own_words(
    answering: Callable[..., Answering], answer: Answer, kind: type[OSError], words: str
) -> None:
    answering(*[answer] * 20)
    with pytest.raises(kind) as told:
        PATH.read_bytes()
    assert words in str(told.value)
    assert str(told.value).startswith("s3://bucket/a/b.json: ")
    assert told.value.errno is not None
    assert told.value.strerror in str(told.value)
    assert SECRET not in f"{told.value!r}{told.value.__cause__!r}"
    assert told.value.__suppress_context__
    assert str(pickle.loads(pickle.dumps(told.value))) == str(told.value)  # it may come from a worker


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_a_busy_server_is_asked_again(answering: Callable[..., Answering]) -> None:
    server = answering(error(503, "SlowDown"), error(500, "InternalError"), Answer(body=b"there"))
    assert PATH.read_bytes() == b"there"
    assert [method for method, _, _ in server.asked] == ["GET"] * 3


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
def test_an_answer_that_breaks_off_is_asked_for_again(answering: Callable[..., Answering]) -> None:
    server = answering(Answer(body=b"a whole body", cut=5), Answer(body=b"a whole body"))
    assert PATH.read_bytes() == b"a whole body"
    assert len(server.asked) == 2


@pytest.mark.usefixtures("patient")
def test_a_refusal_is_not_asked_for_again(answering: Callable[..., Answering]) -> None:
    server = answering(*[error(403, "AccessDenied")] * 5)
    with pytest.raises(PermissionError):
        PATH.read_bytes()
    assert len(server.asked) == 1


@pytest.mark.usefixtures("patient")
def test_our_own_object_in_the_way_is_a_success(answering: Callable[..., Answering]) -> None:
    """The answer to the first try was lost, so the second one finds what the first one made."""
    server = answering(
        error(500, "InternalError"),
        error(412, "PreconditionFailed"),
        lambda asked: Answer(headers={"x-amz-meta-writer": asked[0][2]["x-amz-meta-writer"]}),
    )
    assert PATH.create(b"once") == '"e"'
    assert [method for method, _, _ in server.asked] == ["PUT", "PUT", "HEAD"]
    assert server.asked[0][2]["if-none-match"] == "*"


@pytest.mark.slow
def test_somebody_elses_object_in_the_way_is_an_error(answering: Callable[..., Answering]) -> None:
    answering(error(412, "PreconditionFailed"), Answer(headers={"x-amz-meta-writer": "another"}))
    with pytest.raises(FileExistsError, match=r"b\.json: is there already"):
        PATH.create(b"once")


@pytest.mark.usefixtures("patient")
def test_a_conflict_of_two_writers_is_tried_again(answering: Callable[..., Answering]) -> None:
    server = answering(error(409, "ConditionalRequestConflict"), Answer())
    assert PATH.create(b"once") == '"e"'
    assert len(server.asked) == 2


@pytest.mark.slow
def test_without_keys_it_is_said_which_to_set(
    answering: Callable[..., Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    answering()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(PermissionError, match=r"no keys for S3 were found .*; set AWS_ACCESS_KEY_ID"):
        PATH.read_bytes()
    monkeypatch.setenv("AWS_PROFILE", "none-of-this-name")
    with pytest.raises(PermissionError, match=r"cannot be used \(ProfileNotFound\); set AWS_ACCESS_KEY_ID"):
        PATH.read_bytes()


@pytest.mark.slow
def test_an_address_that_is_none_is_told(answering: Callable[..., Answering], monkeypatch: pytest.MonkeyPatch) -> None:
    answering()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(OSError, match=r"is not set up well \(ValueError\); correct AWS_ENDPOINT_URL"):
        PATH.read_bytes()


def test_buckets_stand_in_the_path_at_servers_of_ones_own(answering: Callable[..., Answering]) -> None:
    server = answering(Answer(body=b"x"))
    assert PATH.read_bytes() == b"x"
    assert server.asked[0][1] == "/bucket/a/b.json"


@pytest.mark.slow
def test_the_library_is_loaded_when_an_object_is_asked_for_and_not_before() -> None:
    code = "import sys, orchestrator.store, tasks.data.manifest; print('boto3' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=HOME, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
