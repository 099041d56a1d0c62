"""Test that a web page of a stranger, open in the user's browser, neither reads nor changes the local cloud."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from playwright.sync_api import Browser, Playwright

from tests.support.local_cloud import LocalCloud, run_local_cloud
from tests.web.browser import find_chromium

HOSTILE = (Path(__file__).parent / "hostile.html").read_bytes()
EVIL = "evil.example"
ATTEMPTS = 23
PRIVATE = "the user's own"
READABLE = ("basic", "cors", "default")
# What some browsers do by themselves against such pages is off: the local cloud must not depend on it.
UNPROTECTED = "--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"


class Server(BaseHTTPRequestHandler):
    """A stranger's web server; also an open one, which lets every page do everything and notes what it asked."""

    asked: ClassVar[list[tuple[str, str, str]]] = []

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.asked.append((self.command, self.headers.get("X-Amz-Target", ""), self.headers.get("Content-Type", "")))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        wanted = {name: self.headers.get(f"Access-Control-Request-{name}", "*") for name in ("Method", "Headers")}
        for name, told in (("Origin", "*"), ("Methods", wanted["Method"]), ("Headers", wanted["Headers"])):
            self.send_header(f"Access-Control-Allow-{name}", told)
        self.end_headers()
        self.wfile.write(HOSTILE)

    do_GET = do_POST = do_PUT = do_DELETE = do_OPTIONS = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """A local cloud that holds something."""
    with run_local_cloud(tmp_path_factory.mktemp("victim") / "state") as cloud:
        cloud.s3.put_object(Bucket=cloud.bucket, Key="private.txt", Body=PRIVATE.encode())
        cloud.client("secretsmanager").create_secret(Name="mine", SecretString=PRIVATE)
        yield cloud


@pytest.fixture(scope="module")
def stranger() -> Iterator[int]:
    """The port of a stranger's web server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def resolving_browser(playwright: Playwright) -> Iterator[Browser]:
    """A browser for which a stranger's name is this machine, as after DNS rebinding."""
    rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1"
    browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--disable-gpu", rules, UNPROTECTED])
    yield browser
    browser.close()


def look(cloud: LocalCloud) -> dict[str, Any]:
    """Return what a stranger would change."""
    iam, sns, sqs = (cloud.client(service) for service in ("iam", "sns", "sqs"))
    return {
        "objects": [each["Key"] for each in cloud.s3.list_objects_v2(Bucket=cloud.bucket)["Contents"]],
        "buckets": [each["Name"] for each in cloud.s3.list_buckets()["Buckets"]],
        "jobs": cloud.sagemaker.list_training_jobs()["TrainingJobSummaries"],
        "users": [each["UserName"] for each in iam.list_users()["Users"]],
        "topics": [each["TopicArn"] for each in sns.list_topics()["Topics"]],
        "queues": sqs.list_queues().get("QueueUrls"),
        "secrets": [each["Name"] for each in cloud.client("secretsmanager").list_secrets()["SecretList"]],
    }


def build_job(bucket: str) -> dict[str, Any]:
    """Build a training job that would run a shell on the user's machine."""
    algorithm = {
        "TrainingImage": "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.10.0-cpu-py313",
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["/bin/sh", "-c", "true"],
    }
    return {
        "TrainingJobName": "planted",
        "RoleArn": "arn:aws:iam::123456789012:role/planted",
        "AlgorithmSpecification": algorithm,
        "OutputDataConfig": {"S3OutputPath": f"s3://{bucket}/planted"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
    }


# Where the page comes from, and by what name it calls the local cloud's ports.
ORIGINS = {
    "another port of this machine": ("http://127.0.0.1:{stranger}", "127.0.0.1"),
    "the same by its other name": ("http://localhost:{stranger}", "localhost"),
    "a stranger's site": (f"http://{EVIL}:{{stranger}}", "127.0.0.1"),
    "a stranger's name for the AWS port": (f"http://{EVIL}:{{aws}}", EVIL),
    "a stranger's name for the app's port": (f"http://{EVIL}:{{app}}", EVIL),
}


@pytest.mark.parametrize("kind", ORIGINS)
def test_a_strangers_page_gets_and_changes_nothing(
    victim: LocalCloud, stranger: int, resolving_browser: Browser, kind: str
) -> None:
    """By fetch, by forms of every encoding, by beacons and scripts; from another port, another site, and its own name
    for this machine."""
    before = look(victim)
    origin, name = ORIGINS[kind]
    address = origin.format(stranger=stranger, aws=victim.aws_port, app=victim.port)
    told = attack(resolving_browser, address, name, (victim.aws_port, victim.port), victim.bucket)
    assert len(told) == ATTEMPTS
    for attempt, kind_of_answer, status, text in told:
        assert PRIVATE not in text
        assert kind_of_answer not in READABLE or status == 403, (attempt, status, text)
    assert look(victim) == before


@pytest.mark.parametrize("kind", ORIGINS)
def test_the_same_page_does_it_all_to_an_open_server(stranger: int, resolving_browser: Browser, kind: str) -> None:
    """So the test before this one does not pass for want of an attack: preflights, targets and forms arrive."""
    origin, name = ORIGINS[kind]
    address = origin.format(stranger=stranger, aws=stranger, app=stranger)
    Server.asked.clear()
    told = attack(resolving_browser, address, name, (stranger, stranger), "bucket")
    assert [answer for answer in told if answer[1] == "failed"] == []
    assert {("POST", "SageMaker.CreateTrainingJob"), ("POST", "secretsmanager.GetSecretValue"), ("PUT", "")} <= {
        (method, target) for method, target, _ in Server.asked
    }
    forms = {kind.partition(";")[0] for method, _, kind in Server.asked if method == "POST"}
    assert {"multipart/form-data", "application/x-www-form-urlencoded", "text/plain"} <= forms


def attack(browser: Browser, address: str, name: str, ports: tuple[int, int], bucket: str) -> list[list[Any]]:
    """Open the hostile page of an address and let it attack (AWS port, app's port) of this machine by a name."""
    page = browser.new_context().new_page()
    # the page was loaded before its name came to mean this machine
    page.route(f"{address}/page", lambda route: route.fulfill(body=HOSTILE, content_type="text/html"))
    page.goto(f"{address}/page")
    target = {
        "aws": f"http://{name}:{ports[0]}",
        "app": f"http://{name}:{ports[1]}/api",
        "bucket": bucket,
        "job": build_job(bucket),
    }
    told: list[list[Any]] = page.evaluate("target => attack(target)", target)
    page.context.close()
    return told


@pytest.mark.parametrize("port", ["aws", "app"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": EVIL},
        {"Host": f"{EVIL}:4566"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example:4566"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "file://"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_host_or_origin_is_refused(
    victim: LocalCloud, port: str, headers: dict[str, str], method: str
) -> None:
    """At both ports, before a preflight is answered, and with nothing that would let a browser show the answer."""
    base = victim.variables["AWS_ENDPOINT_URL"] if port == "aws" else victim.variables["API_URL"]
    asked = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-amz-target"}
    answer = httpx.request(method, f"{base}/health", headers=asked | headers)
    assert answer.status_code == 403
    assert answer.json()["message"]
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_apps_own_page_uploads_by_a_signed_url(victim: LocalCloud, resolving_browser: Browser) -> None:
    """It is of another port than the bucket, and is let in there: by both of this machine's names."""
    upload = victim.api.post("/datasets/mine").raise_for_status().json()
    for name in ("127.0.0.1", "localhost"):
        page = resolving_browser.new_context().new_page()
        page.goto(f"http://{name}:{victim.port}/api/")
        sent = "async ([url, headers]) => (await fetch(url, {method: 'PUT', body: 'zip', headers})).status"
        assert page.evaluate(sent, [upload["url"], upload.get("headers", {})]) == 200
        page.context.close()
    assert victim.s3.get_object(Bucket=victim.bucket, Key="datasets/mine.zip")["Body"].read() == b"zip"
