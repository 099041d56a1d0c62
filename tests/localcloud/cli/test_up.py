"""Test `python -m localcloud up` as a user runs it: one start, one end, and what a second start finds."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from botocore.exceptions import ClientError

from localcloud.cli.up import describe, hold_lock, is_up
from localcloud.common.addresses import CannotStart, Place, enter, read_env, read_place, write_env
from localcloud.common.keys import keep_tokens
from tests.localcloud.common.full_disk import fill_disk
from tests.support.local_cloud import LocalCloud, find_free_port, run_local_cloud, wait_until


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with run_local_cloud(tmp_path_factory.mktemp("up") / "state") as cloud:
        yield cloud


def run_up(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a cloud that is expected to fail."""
    variables = os.environ | {"LOCALCLOUD_HOME": str(home)} | environment
    command = [sys.executable, "-m", "localcloud", "up"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    """The one line names the port and the variable, and the exit status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for variable, other in (("AWS_PORT", "PORT"), ("PORT", "AWS_PORT")):
            result = run_up(tmp_path, **{variable: port, other: "45999"})
            assert result.returncode == 1
            assert f"Port {port}" in result.stderr
            assert f"{variable}=" in result.stderr
            assert len(result.stderr.splitlines()) == 1


def test_a_second_cloud_on_the_same_folder_is_refused(cloud: LocalCloud) -> None:
    """Two clouds would overwrite each other's state."""
    result = run_up(cloud.home, AWS_PORT="45998", PORT="45999")
    assert result.returncode == 1
    assert "is up already" in result.stderr


def test_the_env_file_is_all_that_a_user_needs(cloud: LocalCloud) -> None:
    """A shell that has sourced the file reaches the bucket and the routes, and finds the AWS CLI."""
    script = '. "$0" && curl -fsS -H "Authorization: Bearer $API_TOKEN" "$API_URL/runs" && aws s3 ls'
    shell = subprocess.run(
        ["sh", "-c", script, str(cloud.home / "env")], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True
    )
    assert shell.returncode == 0, shell.stderr
    assert shell.stdout.splitlines()[-1].endswith(f" {cloud.bucket}")


def test_the_routes_stand_under_the_stage(cloud: LocalCloud) -> None:
    """/api/health answers; an unknown path is 404; a missing token is the app's 401."""
    assert httpx.get(f"{cloud.variables['API_URL']}/health").status_code == 200
    assert httpx.get(f"{cloud.variables['API_URL']}/nothing").status_code == 404
    assert httpx.get(f"{cloud.variables['API_URL']}/runs").status_code == 401


def test_functions_log_to_a_file(cloud: LocalCloud) -> None:
    """The file has Lambda's lines around each invocation."""
    text = (cloud.home / "functions.log").read_text()
    assert "whippet-local-api START RequestId:" in text


def test_a_killed_cloud_leaves_no_process_and_keeps_its_state(tmp_path: Path) -> None:
    """After kill -9 no process is left; the next start has the objects and the token."""
    with run_local_cloud(tmp_path / "state") as cloud:
        cloud.s3.put_object(Bucket=cloud.bucket, Key="kept", Body=b"1")
        token, processes = cloud.variables["API_TOKEN"], cloud.list_processes()
        assert len(processes) > 2
        cloud.kill()
        _gone, alive = psutil.wait_procs(processes, timeout=15)
        assert not alive, [process.cmdline() for process in alive]
        cloud.start()
        assert cloud.variables["API_TOKEN"] == token
        assert cloud.client("s3").get_object(Bucket=cloud.bucket, Key="kept")["Body"].read() == b"1"
        processes = cloud.list_processes()
        assert cloud.interrupt() == 0
        _gone, alive = psutil.wait_procs(processes, timeout=15)
        assert not alive, [process.cmdline() for process in alive]
        assert not (cloud.home / "env").exists()


def test_all_of_the_state_is_its_owners_alone(cloud: LocalCloud) -> None:
    """Nobody else may look into the folder, or read any file in it, whatever wrote it."""
    open_to_others = [
        path for path in [cloud.home, *cloud.home.rglob("*")] if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert open_to_others == [cloud.home / "up.log"]  # which the test wrote before the cloud began


def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """While the cloud can write to no file it refuses and says why; what it took before is there after a kill."""
    with run_local_cloud(tmp_path / "state") as cloud:
        assert cloud.process is not None
        cloud.s3.put_object(Bucket=cloud.bucket, Key="kept", Body=b"1")
        cloud.sagemaker.add_tags(ResourceArn=create_model(cloud, "kept"), Tags=[{"Key": "a", "Value": "1"}])
        with fill_disk(cloud.process.pid):
            s3, sagemaker = (cloud.client(service, max_attempts=1) for service in ("s3", "sagemaker"))
            with pytest.raises(ClientError, match="could not write this to its disk"):
                s3.put_object(Bucket=cloud.bucket, Key="kept", Body=b"2")
            with pytest.raises(ClientError, match="InternalFailure"):
                sagemaker.delete_tags(ResourceArn=name_model("kept"), TagKeys=["a"])
            assert s3.get_object(Bucket=cloud.bucket, Key="kept")["Body"].read() == b"1"
            assert cloud.api.get("/runs").status_code == 200
        cloud.kill()
        cloud.start()
        assert cloud.client("s3").get_object(Bucket=cloud.bucket, Key="kept")["Body"].read() == b"1"
        assert cloud.client("sagemaker").list_tags(ResourceArn=name_model("kept"))["Tags"] == [
            {"Key": "a", "Value": "1"}
        ]


def name_model(name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:model/{name}"


def create_model(cloud: LocalCloud, name: str) -> str:
    image = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312"
    container = {"Image": image, "ModelDataUrl": f"s3://{cloud.bucket}/kept"}
    role = "arn:aws:iam::123456789012:role/me"
    made = cloud.sagemaker.create_model(ModelName=name, PrimaryContainer=container, ExecutionRoleArn=role)
    return str(made["ModelArn"])


def test_it_starts_whatever_state_files_it_finds(tmp_path: Path) -> None:
    """Each file is cut or emptied: the cloud starts, names every one it set aside, and has new keys."""
    home = tmp_path / "state"
    with run_local_cloud(home) as cloud:
        cloud.s3.put_object(Bucket=cloud.bucket, Key="kept", Body=b"1")
        create_model(cloud, "whole")
        create_model(cloud, "cut")
        key = cloud.variables["AWS_ACCESS_KEY_ID"]
        cloud.kill()
        spoilt = [home / "tokens.json", home / "credentials.json", *home.glob("sagemaker/*/cut.json")]
        spoilt += [*home.glob("template/*.json"), home / "s3" / "objects.sqlite"]
        (home / "s3" / "objects.sqlite-wal").unlink(missing_ok=True)
        for number, path in enumerate(spoilt):
            path.write_bytes(path.read_bytes()[: number % 2 * 20])
        cloud.start()
        assert cloud.variables["AWS_ACCESS_KEY_ID"] != key
        models = cloud.client("sagemaker").list_models()["Models"]
        assert [each["ModelName"] for each in models] == ["whole"]
        assert cloud.client("s3").list_buckets()["Buckets"]
        told = (home / "up.log").read_text()
        assert [path.name for path in spoilt if f"{path} is " not in told and "template" not in path.name] == []


def test_a_cloud_for_one_program_ends_with_it(tmp_path: Path) -> None:
    """With --until-eof the cloud ends with the program that started it, however that one ends."""
    ports = {"AWS_PORT": str(find_free_port()), "PORT": str(find_free_port())}
    command = [sys.executable, "-m", "localcloud", "up", "--until-eof"]
    environment = os.environ | {"LOCALCLOUD_HOME": str(tmp_path)} | ports
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as cloud:
        wait_until(lambda: True if (tmp_path / "env").exists() else None, within=60, what="the cloud is up")
        assert cloud.stdin is not None
        cloud.stdin.close()
        assert cloud.wait(30) == 0


@pytest.mark.parametrize("port", ["0", "65536", "x", "-1", "4566 "])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    """The refusal names the variable and its value."""
    with pytest.raises(CannotStart, match=r"AWS_PORT is '.*'"):
        read_place({"AWS_PORT": port})


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    """The lock belongs to the process, not to the file."""
    place = Place(tmp_path)
    assert not is_up(place)
    with hold_lock(place):
        assert is_up(place)
    assert not is_up(place)


def test_a_users_own_aws_settings_are_left_behind(tmp_path: Path) -> None:
    """A profile or session token of a real account never reaches the local cloud's processes."""
    environ = {"AWS_PROFILE": "work", "AWS_SESSION_TOKEN": "secret", "PATH": "/bin"}
    enter(Place(tmp_path), environ)
    assert "AWS_PROFILE" not in environ
    assert "AWS_SESSION_TOKEN" not in environ
    assert environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert environ["PATH"] == "/bin"


def test_the_token_is_made_once_and_private(tmp_path: Path) -> None:
    """Only the owner may read the two files that hold the token."""
    place = Place(tmp_path)
    token = keep_tokens(tmp_path)["local"]
    assert keep_tokens(tmp_path)["local"] == token
    write_env(place, "bucket", "it's $odd")
    assert read_env(place)["API_TOKEN"] == "it's $odd"
    assert read_env(place)["SAGEMAKER_USER_CONFIG_OVERRIDE"] == str(place.sdk_file)
    for path in (tmp_path / "tokens.json", place.env_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_printed_address_signs_in_and_no_log_holds_the_token(tmp_path: Path) -> None:
    """In a terminal the page's address has the token in its fragment; where output goes to a file, it has none."""
    place = Place(tmp_path)
    assert f"{place.api_url}/#token=abc" in describe(place, 1.0, "abc")
    assert "#token" not in describe(place, 1.0, None)
