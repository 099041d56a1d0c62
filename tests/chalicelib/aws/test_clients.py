"""The only module that talks to AWS: nothing of botocore leaves it, and S3's conditional puts do what they say."""

from __future__ import annotations

import ast
import inspect
import io
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import botocore.exceptions
import botocore.session
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.model import ServiceModel
from moto import mock_aws

from chalicelib import errors
from chalicelib.aws import clients
from chalicelib.aws.buckets import Bucket
from chalicelib.aws.errors import ERRORS, translate
from chalicelib.aws.sagemaker import Kind
from chalicelib.errors import ServiceError
from tests.fakes.clients import fail
from tests.fakes.world import BUCKET, World

SOURCES = Path(clients.__file__).parents[1]
SERVICES = (
    "s3",
    "sagemaker",
    "sagemaker-runtime",
    "events",
    "sns",
    "secretsmanager",
    "application-autoscaling",
    "logs",
)
TABLE_DRIVEN = ["update_endpoint"]
TABLE_DRIVEN += [f"{verb}_{kind.method}" for verb in ("create", "describe", "stop", "delete") for kind in Kind]
TABLE_DRIVEN += [f"list_{kind.method}s" for kind in (Kind.MODEL, Kind.ENDPOINT, Kind.ENDPOINT_CONFIG)]


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "s3.eu-west-1.amazonaws.com"),
        ("us-east-1", "s3.us-east-1.amazonaws.com"),
        ("me-south-1", "s3.me-south-1.amazonaws.com"),
        ("cn-north-1", "s3.cn-north-1.amazonaws.com.cn"),
    ],
)
@pytest.mark.parametrize("sign", [Bucket.sign_upload, Bucket.sign_download])
def test_links_are_signed_for_the_host_of_the_region(
    monkeypatch: pytest.MonkeyPatch, sign: Callable[[Bucket, str, int], str], region: str, host: str
) -> None:
    """S3's global host answers 307 for up to a day, which a signed PUT from a browser does not survive, and newer
    regions refuse it. The page's Content-Security-Policy names the same host."""
    for name, value in {"DEFAULT_REGION": region, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    bucket = Bucket(clients.connect("s3"), "whippet-dev-123456789012")
    url = urlsplit(sign(bucket, "datasets/dogs.zip", 60))
    assert (url.scheme, url.netloc) == ("https", f"whippet-dev-123456789012.{host}")
    assert f"/{region}/s3/" in parse_qs(url.query)["X-Amz-Credential"][0]
    assert bucket.find_origin() == f"https://whippet-dev-123456789012.{host}"


@cache
def find_called_methods() -> set[str]:
    """The names of the client methods that are written out; SageMaker's come from its table of kinds too."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (SOURCES / "aws").glob("*.py")]
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


@cache
def load_model(service: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(service)


def list_operations() -> Iterator[tuple[str, str]]:
    """(service, operation) of every call that the modules of `aws/` make."""
    for service in SERVICES:
        called = find_called_methods() | set(TABLE_DRIVEN if service == "sagemaker" else ())
        for operation in load_model(service).operation_names:
            if botocore.xform_name(operation) in called:
                yield service, operation


def test_the_list_of_operations_is_not_empty() -> None:
    """The next test looks at what is called, so it must find that."""
    found = {operation for _, operation in list_operations()}
    assert {"PutObject", "CopyObject", "InvokeEndpoint", "PutEvents", "Publish", "GetSecretValue"} <= found
    assert {"CreateHyperParameterTuningJob", "UpdateEndpoint", "ListEndpointConfigs", "StopTrainingJob"} <= found


@pytest.mark.parametrize(("service", "operation"), list(list_operations()))
def test_every_error_that_an_operation_names_is_in_the_map(service: str, operation: str) -> None:
    """The service model's error codes of what we call are all translated on purpose."""
    model = load_model(service).operation_model(operation)
    codes = {shape.metadata.get("error", {}).get("code", shape.name) for shape in model.error_shapes}
    assert codes - {"ModelError"} <= set(ERRORS)


def list_botocore_errors() -> list[type[Exception]]:
    classes = [each for _, each in inspect.getmembers(botocore.exceptions, inspect.isclass)]
    return [each for each in classes if issubclass(each, BotoCoreError | ClientError)]


@pytest.mark.parametrize("kind", list_botocore_errors())
def test_no_error_of_botocore_comes_through(kind: type[Exception]) -> None:
    """Whatever botocore raises leaves the module as one of ours, saying what was tried."""
    raised = kind.__new__(kind)
    Exception.__init__(raised, "the cause")
    with pytest.raises(ServiceError, match="Trying a thing"), clients.translated("Trying a thing"):
        raise raised


def test_errors_of_others_come_through() -> None:
    """A bug of ours, or a disk that is full, is not AWS's."""
    for error in (ValueError("x"), OSError("x")):
        with pytest.raises(type(error)), clients.translated("Trying"):
            raise error


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        ("ValidationException", 'Cannot create already existing endpoint "arn:x".', errors.AlreadyExists),
        ("ValidationException", 'Could not find endpoint "arn:x".', errors.ServiceNotFound),
        ("ValidationException", "Requested resource not found.", errors.ServiceNotFound),
        ("ValidationException", 'Cannot update in-progress endpoint "arn:x".', errors.Busy),
        ("ValidationException", "1 validation error detected", errors.InvalidRequest),
        ("ResourceInUse", "names must be unique", errors.AlreadyExists),
        ("ResourceLimitExceeded", "limit is 0", errors.QuotaExceeded),
        ("403", "Forbidden", errors.AccessDenied),
        ("SlowDown", "Please reduce your request rate.", errors.Throttled),
        ("SomethingNew", "of tomorrow", ServiceError),
    ],
)
def test_codes_and_texts_become_kinds(code: str, text: str, kind: type[ServiceError]) -> None:
    """ValidationException is told apart by its text; a code that nobody knows is a ServiceError."""
    found = translate(fail(code, text, "X"), "Trying")
    assert type(found) is kind
    assert text in found.message


def test_only_one_module_imports_boto3() -> None:
    """In chalicelib and app.py, boto3 and botocore are imported in aws/clients.py alone."""
    for path in [*SOURCES.rglob("*.py"), SOURCES.parent / "app.py"]:
        if path.name != "clients.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
            assert not {name for name in imported if name.split(".")[0] in ("boto3", "botocore")}, path


@pytest.fixture
def bucket(world: World) -> Bucket:
    return Bucket(world.s3, BUCKET)


@pytest.fixture(scope="module")
def moto() -> Iterator[Bucket]:
    """Moto's bucket: one for all tests, each of which names objects of its own or empties it by `any_bucket`."""
    with mock_aws():
        client = boto3.client("s3", "us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
        client.create_bucket(Bucket=BUCKET)
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        yield Bucket(client, BUCKET)


@pytest.fixture(params=["fake", "moto"])
def any_bucket(request: pytest.FixtureRequest, bucket: Bucket) -> Bucket:
    """The fake bucket and moto's, both empty: what holds for one must hold for the other."""
    if request.param == "fake":
        return bucket
    moto: Bucket = request.getfixturevalue("moto")
    if versions := list(moto.list_versions("")):
        moto.delete_versions(versions)
    return moto


def test_what_is_created_once_is_not_created_again(any_bucket: Bucket) -> None:
    """The first writer wins, and the second learns that there was one."""
    bucket = any_bucket
    assert bucket.create("a", b"1")
    assert bucket.create("a", b"2") is None
    stored = bucket.read("a")
    assert stored
    assert stored.body == b"1"


def test_what_changed_meanwhile_is_not_replaced(any_bucket: Bucket) -> None:
    """Replacing needs the etag that was read; a deleted object is not replaced either."""
    bucket = any_bucket
    first = bucket.create("a", b"1") or ""
    second = bucket.replace("a", b"2", first)
    assert second
    assert bucket.replace("a", b"3", first) is None
    bucket.delete("a")
    assert bucket.replace("a", b"3", second) is None


def test_a_conflict_is_tried_again(world: World, bucket: Bucket) -> None:
    """S3's 409 says that neither writer has won yet; many of them in a row are given up."""
    world.s3.conflicts = 3
    assert bucket.create("a", b"1")
    world.s3.conflicts = 99
    with pytest.raises(errors.Busy):
        bucket.create("b", b"1")


def test_a_missing_object_is_none(any_bucket: Bucket) -> None:
    """Reading and describing tell of nothing with None."""
    bucket = any_bucket
    assert bucket.read("a") is None
    assert bucket.describe("a") is None


def test_a_listing_goes_over_all_pages(world: World, bucket: Bucket) -> None:
    """Of two keys a page, every key and folder comes once, in order."""
    world.page = 2
    keys = [f"x/{name}" for name in ("a", "b", "c", "d", "e")]
    for key in [*keys, "x/sub/f", "y"]:
        bucket.write(key)
    assert [entry.key for entry in bucket.list_entries("x/")] == [*keys, "x/sub/f"]
    assert [entry.key for entry in bucket.list_entries("x/", after="x/c")] == [*keys[3:], "x/sub/f"]
    assert sorted(bucket.list_names("x/")) == ["a", "b", "c", "d", "e", "sub/"]


def test_a_copy_is_of_the_version_that_was_seen(any_bucket: Bucket) -> None:
    """A later upload is not what is copied; what is gone cannot be."""
    bucket = any_bucket
    bucket.write("a+b 100%.zip", b"old")
    seen = bucket.describe("a+b 100%.zip")
    bucket.write("a+b 100%.zip", b"new")
    assert seen
    bucket.copy(seen.key, "copy", etag=seen.etag, size=3, version=seen.version)
    copied = bucket.read("copy")
    assert copied
    assert copied.body == b"old"
    with pytest.raises(errors.ServiceNotFound):
        bucket.copy("nothing", "copy", etag=seen.etag, size=3)


def test_a_copy_without_versions_notices_another_upload(bucket: Bucket) -> None:
    """By its etag. (moto leaves that condition out.)"""
    bucket.write("a.zip", b"old")
    seen = bucket.describe("a.zip")
    bucket.write("a.zip", b"new")
    assert seen
    with pytest.raises(errors.PreconditionFailed):
        bucket.copy(seen.key, "copy", etag=seen.etag, size=3)


def test_an_object_is_read_by_ranges(world: World, any_bucket: Bucket) -> None:
    """A file over an object seeks and reads, and asks S3 for a part at a time."""
    body = bytes(range(256)) * 40_000
    any_bucket.write("large", body)
    with any_bucket.open("large") as file:
        file.seek(-10, io.SEEK_END)
        assert file.read() == body[-10:]
        file.seek(5)
        assert file.read(3) == body[5:8]
        assert file.tell() == 8
    assert world.trouble.calls.count("get_object") <= 6


def test_opening_sends_no_byte(world: World, bucket: Bucket) -> None:
    """Its size is asked for, and not its beginning, which nobody may want; a missing object is missed at once."""
    bucket.write("large", bytes(3_000_000))
    before = len(world.trouble.calls)
    with bucket.open("large") as file:
        assert file.tell() == 0
        assert file.seek(0, io.SEEK_END) == 3_000_000
        assert world.trouble.calls[before:] == ["head_object"]
    with pytest.raises(errors.ServiceNotFound), bucket.open("nothing"):
        pass


def test_a_failure_while_reading_is_ours(world: World, bucket: Bucket) -> None:
    """It is no OSError, which zipfile would take for a broken archive."""
    bucket.write("large", b"x" * 3_000_000)
    with bucket.open("large") as file:
        file.read()
        world.trouble.plan = dict.fromkeys(range(len(world.trouble.calls), 99), "throttle")
        file.seek(0)
        with pytest.raises(errors.Throttled):
            file.read(1)


def test_spans_are_got_at_once_and_served_from_memory(world: World, bucket: Bucket) -> None:
    """Each span is one GET; what no span holds whole is read as ever."""
    body = bytes(range(256)) * 400
    bucket.write("large", body)
    with bucket.open("large") as file:
        file.prefetch([(10, 40), (50_000, 60_000), (10, 40)])
        calls = len(world.trouble.calls)
        for start, size in ((10, 30), (50_100, 4_000), (12, 5)):
            file.seek(start)
            assert file.read(size) == body[start : start + size]
            assert file.tell() == start + size
        assert len(world.trouble.calls) == calls
        file.seek(30)
        assert file.read(100) == body[30:130]
        file.seek(-3, 2)
        assert file.read() == body[-3:]


def test_an_event_that_the_bus_refuses_is_an_error(world: World) -> None:
    """PutEvents succeeds as a call when an entry fails: the count is looked at."""
    world.events.refuses = True
    with pytest.raises(ServiceError, match="try again"):
        world.services().publisher.put_event("whippet", "Run Failed", {})


def test_the_account_in_memory_answers_one_call_at_a_time() -> None:
    """A page asks while a test still fills the account: a list shows an object whole or not at all."""
    world, interval = World(), sys.getswitchinterval()
    filling = threading.Thread(target=lambda: [world.s3.store(f"runs/{number:04}", b"") for number in range(1000)])
    sys.setswitchinterval(1e-6)
    try:
        filling.start()
        while filling.is_alive():
            world.s3.list_objects_v2(Bucket=BUCKET, Prefix="runs/")
    finally:
        filling.join()
        sys.setswitchinterval(interval)
    assert len(world.s3.list_objects_v2(Bucket=BUCKET, Prefix="runs/")["Contents"]) == 1000
