"""Test `make deploy` and `make destroy` as an operator types them, with the local cloud as the account.

The first stage is made and removed by make itself; what stands between runs the same entry points in this process, with
what make packed.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infrastructure.packaging.build import PROJECT
from tests.localcloud.sagemaker_support import build_training_request, pack
from tests.support.local_cloud import LocalCloud
from tests.support.operator import Operator, Said, describe_terminal, find_package, make

SPOT, ON_DEMAND = "for spot training job usage", "for training job usage"
TYPES = ("ml.g4dn.xlarge", "ml.g5.xlarge")
NOT_THERE = "never"  # the name of a stage that no test makes


@pytest.fixture(scope="module")
def made(cloud: LocalCloud) -> Iterator[Said]:
    """Return what `make deploy` printed when it created the stage `made`, which `make destroy` removes at the end."""
    said = make(cloud, "deploy", "STAGE=made", "TAGS=team=vision", "PARAMETERS=AlarmEmail=a@example.org")
    assert said.code == 0, said.out + said.err
    yield said
    gone = make(cloud, "destroy", "STAGE=made", "DATA=delete")
    assert gone.code == 0, gone.out + gone.err
    assert re.search(r"Kept: role whippet-made-ApiLogsRole-\w+: API Gateway of the whole account", gone.out)
    assert "Nothing else of whippet-made is left." in gone.out


@pytest.fixture
def operator(
    cloud: LocalCloud, made: Said, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    for name, value in describe_terminal(cloud).items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    return Operator(cloud, find_package(PROJECT / "dist"), capsys.readouterr)


@pytest.fixture
def no_stage(operator: Operator) -> Iterator[str]:
    """Return the name of a stage that does not exist, and make sure that it does not exist afterwards."""
    yield "other"
    assert operator.destroy("other", data="delete").code == 0


def list_buckets(cloud: LocalCloud) -> set[str]:
    return {each["Name"] for each in cloud.s3.list_buckets()["Buckets"]}


def test_it_makes_the_stage_and_says_how_to_use_it(cloud: LocalCloud, made: Said) -> None:
    """It prints the bucket, the address, a command for the token, and what the stage costs at rest."""
    assert "Deploying whippet-made to account 123456789012, us-east-1." in made.out
    assert "CREATE_COMPLETE" in made.out
    assert "export BUCKET=whippet-made-123456789012-us-east-1" in made.out
    assert re.search(r"export API_URL=https://\w+\.execute-api\.us-east-1\.amazonaws\.com/api$", made.out, re.MULTILINE)
    assert re.search(r"^At rest about \$\d+\.\d\d a month:$", made.out, re.MULTILINE)
    sources = cloud.s3.list_objects_v2(Bucket="whippet-made-123456789012-us-east-1", Prefix="code/")["Contents"]
    assert [each["Key"] for each in sources] == [f"code/{find_package(PROJECT / 'dist').source.name}"]


def test_the_printed_commands_tell_the_token(cloud: LocalCloud, made: Said) -> None:
    """Pasted into a shell, the lines set three variables; the last one is the generated token."""
    exports = "\n".join(line.strip() for line in made.out.splitlines() if line.startswith("  export "))
    environment = describe_terminal(cloud) | {"PATH": f"{PROJECT / '.venv/bin'}:/usr/bin:/bin"}
    script = f'set -e\n{exports}\nprintf %s "$API_TOKEN"'
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    secret = cloud.client("secretsmanager").get_secret_value(SecretId="whippet-made-tokens")["SecretString"]
    assert len(done.stdout) == 43, done.stderr
    assert f'"default_token": "{done.stdout}"' in secret


def test_the_stack_has_what_was_ordered_and_what_was_found_out(operator: Operator) -> None:
    """The stack has tags, parameters, the region's images and the program's name. An order stays until another one."""
    stack, parameters = operator.find_stack("made"), operator.read_parameters("made")
    assert stack is not None
    tags = {each["Key"]: each["Value"] for each in stack["Tags"]}
    assert tags == {"whippet:app": "whippet", "whippet:stage": "made", "team": "vision"}
    assert parameters["AlarmEmail"] == "a@example.org"
    assert parameters["CostTags"] == '{"team": "vision"}'
    assert parameters["CodeName"] == operator.package.source.name
    assert "us-east-1.amazonaws.com/pytorch" in parameters["TrainingImageGpu"]


def test_again_changes_nothing(operator: Operator) -> None:
    """Deploying the same stage again uploads and changes nothing, earlier tags and parameters included."""
    said = operator.deploy("made")
    assert said.code == 0, said.err
    assert "The stack whippet-made was so already." in said.out
    assert "Sent " not in said.out


def test_a_changed_parameter_is_an_update(operator: Operator) -> None:
    """What is named changes, in the functions too; what is not named stays as ordered before."""
    said = operator.deploy("made", parameters="MonthlyCapUsd=50")
    assert said.code == 0, said.err
    assert "UPDATE_COMPLETE" in said.out
    parameters = operator.read_parameters("made")
    assert (parameters["MonthlyCapUsd"], parameters["AlarmEmail"]) == ("50", "a@example.org")
    function = operator.cloud.client("lambda").get_function_configuration(FunctionName="whippet-made-sweep")
    assert function["Environment"]["Variables"]["MONTHLY_CAP_USD"] in (50, "50")
    assert operator.deploy("made", parameters="MonthlyCapUsd=200").code == 0


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"parameters": "MonthlyCapUds=50"}, "The template has no parameter MonthlyCapUds. It has "),
        ({"parameters": "50"}, "PARAMETERS has '50', and takes NAME=VALUE pairs."),
        ({"tags": "whippet:stage=x"}, "TAGS has 'whippet:stage'"),
        ({"app": "my-app"}, "APP is 'my-app', and may hold lower-case letters and digits alone."),
        ({"profile": "nobodys"}, "nobodys"),
    ],
    ids=["parameter", "pairs", "tag", "app", "profile"],
)
def test_a_command_that_cannot_be_understood_does_nothing(operator: Operator, told: dict[str, str], words: str) -> None:
    """The exit code is 2, the message names the wrong word, and no stack is created."""
    said = operator.deploy(NOT_THERE, **told)
    assert (said.code, words in said.err) == (2, True), said.err
    assert operator.find_stack(NOT_THERE) is None


def test_without_credentials_it_says_how_to_get_some(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both commands exit with 1, before anything is packed or removed."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    for said in (operator.deploy("made"), operator.destroy("made")):
        assert said.code == 1
        assert "Unable to locate credentials" in said.err
        assert "aws sso login" in said.err


def test_without_a_region_it_asks_for_one(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """No region is guessed."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_REGION")
    said = operator.deploy("made")
    assert (said.code, "REGION=" in said.err) == (2, True), said.err


def test_a_profile_is_used_and_told_on(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile's credentials and region are used; the command for the token names it too."""
    told = operator.cloud.variables
    keys = [f"{name.lower()} = {told[name]}" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    (tmp_path / "config").write_text("\n".join(["[profile ops]", *keys, "region = us-east-1", ""]))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    said = operator.deploy("made", profile="ops")
    assert said.code == 0, said.err
    assert "aws secretsmanager get-secret-value --profile ops --region us-east-1" in said.out


def test_a_region_without_images_is_a_clear_error(operator: Operator) -> None:
    """The message comes before anything is created, and says what can be done."""
    before = list_buckets(operator.cloud)
    said = operator.deploy(NOT_THERE, region="us-iso-west-1")
    assert said.code == 1
    assert "AWS has no PyTorch 2.11 training image in region 'us-iso-west-1'" in said.err
    assert "Deploy to another region" in said.err
    assert list_buckets(operator.cloud) == before


def test_images_of_ones_own_take_the_place_of_awss(operator: Operator, no_stage: str) -> None:
    """The way out where AWS has no image that it still patches: it is used, and AWS's is spoken of no more."""
    own = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1"
    said = operator.deploy(no_stage, parameters=f"InferenceImageCpu={own} InferenceImageGpu={own}")
    assert said.code == 0, said.err
    assert operator.read_parameters(no_stage)["InferenceImageCpu"] == own
    assert "pytorch-inference" not in said.out


def test_an_image_and_a_type_that_do_not_go_together_are_refused(operator: Operator) -> None:
    """CUDA 13 does not run on a V100."""
    said = operator.deploy(NOT_THERE, parameters="TrialInstanceTypes=ml.p3.2xlarge")
    assert said.code == 1
    assert "ml.p3.2xlarge has a GPU of compute capability 7.0" in said.err
    assert operator.find_stack(NOT_THERE) is None


def test_no_spot_quota_means_on_demand_said_aloud_and_priced_again(operator: Operator, no_stage: str) -> None:
    """As in a new account: the quotas are named with the commands that ask for more, and the stack uses no spot."""
    with operator.limited({f"{each} {SPOT}": 0 for each in TYPES}):
        said = operator.deploy(no_stage)
    assert said.code == 0, said.err
    assert "! No spot instance may train here: all jobs run on demand (UseSpot=false)." in said.out
    assert re.search(
        r"--quota-code L-\w+ --desired-value 2   # ml\.g5\.xlarge for spot training job usage: 0", said.out
    )
    assert re.search(r"ml\.g4dn\.xlarge +\$0\.74 on demand", said.out)
    assert "on spot" not in said.out
    assert operator.read_parameters(no_stage)["UseSpot"] == "false"
    raised = operator.deploy(no_stage)
    assert raised.code == 0, raised.err
    assert operator.read_parameters(no_stage)["UseSpot"] == "true"  # once AWS has raised the quota


def test_without_any_quota_nothing_is_made(operator: Operator, no_stage: str) -> None:
    """Every missing quota is named; ANYWAY=yes deploys nevertheless."""
    with operator.limited({f"{each} {kind}": 0 for each in TYPES for kind in (SPOT, ON_DEMAND)}):
        said = operator.deploy(no_stage)
        assert said.code == 1
        assert [f"# {each} {ON_DEMAND}: 0" in said.err for each in TYPES] == [True, True], said.err
        assert "Nothing was made." in said.err
        assert operator.find_stack(no_stage) is None
        assert operator.deploy(no_stage, anyway="yes").code == 0
    assert operator.find_stack(no_stage) is not None


def test_a_small_account_is_told_what_it_cannot_do(operator: Operator, no_stage: str) -> None:
    """With ten calls at once and no endpoints, each limit is named with its way out, and nothing is reserved."""
    limits = {
        "Concurrent executions": 10,
        "Maximum number of serverless endpoints": 0,
        "ml.m5.large for endpoint usage": 0,
        f"{TYPES[0]} {SPOT}": 0,
    }
    with operator.limited(limits):
        said = operator.deploy(no_stage, parameters="ReservedConcurrency=2")
    assert said.code == 0, said.err
    assert "may run 10 calls at once" in said.out
    assert "No serverless endpoint may be made here" in said.out
    assert "No endpoint on instances may be made here" in said.out
    assert "ml.g4dn.xlarge may not be used here" in said.out
    parameters = operator.read_parameters(no_stage)
    assert (parameters["ReservedConcurrency"], parameters["TrialInstanceTypes"]) == ("0", "ml.g5.xlarge")


def test_what_cannot_be_made_is_rolled_back_and_told(operator: Operator, no_stage: str) -> None:
    """The message names the failed resource, why, and what to do; afterwards the same command succeeds."""
    iam, name = operator.cloud.client("iam"), f"whippet-{no_stage}-jobs-us-east-1"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    said = operator.deploy(no_stage)
    assert said.code == 1
    assert re.search(r"CREATE_FAILED +ExecutionRole +\(.*already exists", said.out)
    assert "The stack ended as ROLLBACK_COMPLETE." in said.err
    assert re.search(r"CREATE_FAILED +ExecutionRole", said.err)
    assert "`make destroy` of the stage removes what is left" in said.err
    iam.delete_role(RoleName=name)
    again = operator.deploy(no_stage)
    assert again.code == 0, again.err
    assert "was never made whole (ROLLBACK_COMPLETE): it is removed first." in again.out


def test_two_stages_live_beside_each_other(operator: Operator) -> None:
    """A stage whose name begins like another's is removed completely; the other stays, and so does the app's."""
    assert operator.deploy("made2").code == 0
    functions = operator.cloud.client("lambda")
    assert operator.destroy("made2", data="delete").code == 0
    left = [each["FunctionName"] for each in functions.list_functions()["Functions"]]
    assert "whippet-made-sweep" in left
    assert not [name for name in left if name.startswith("whippet-made2-")]
    assert {"whippet-made-123456789012-us-east-1", operator.cloud.bucket} <= list_buckets(operator.cloud)
    assert "was so already" in operator.deploy("made").out


def test_data_is_kept_and_taken_in_again(operator: Operator, no_stage: str) -> None:
    """Without DATA=delete the bucket and its contents stay; the next deployment takes it into its stack."""
    assert operator.deploy(no_stage).code == 0
    bucket = f"whippet-{no_stage}-123456789012-us-east-1"
    operator.cloud.s3.put_object(Bucket=bucket, Key="datasets/dogs.zip", Body=b"dogs")
    said = operator.destroy(no_stage)
    assert said.code == 0, said.err
    assert f"Kept: bucket {bucket}: your data (DATA=delete deletes it)" in said.out
    again = operator.deploy(no_stage)
    assert again.code == 0, again.err
    assert "is there from before, and is taken into the stack with what it holds" in again.out
    assert operator.cloud.s3.get_object(Bucket=bucket, Key="datasets/dogs.zip")["Body"].read() == b"dogs"
    gone = operator.destroy(no_stage, data="delete")
    assert gone.code == 0, gone.err
    assert f"Deleted the bucket {bucket} with " in gone.out
    assert not [name for name in list_buckets(operator.cloud) if name.startswith(f"whippet-{no_stage}-")]


def test_destroying_nothing_is_no_error(operator: Operator) -> None:
    """Repeating it is safe here too."""
    said = operator.destroy(NOT_THERE)
    assert (said.code, "Nothing else of whippet-never is left." in said.out) == (0, True), said.err


def test_what_only_its_tags_tell_of_is_listed_and_fails(operator: Operator) -> None:
    """Something with the stage's tags that no list of ours covers is named, and the exit code is 1."""
    kms = operator.cloud.client("kms")
    tags = {"whippet:app": "whippet", "whippet:stage": NOT_THERE}
    key = kms.create_key(Tags=[{"TagKey": name, "TagValue": value} for name, value in tags.items()])["KeyMetadata"]
    said = operator.destroy(NOT_THERE)
    assert said.code == 1
    assert f"This is left:\n  tagged {key['Arn']}" in said.err
    kms.untag_resource(KeyId=key["KeyId"], TagKeys=list(tags))


def test_what_the_app_made_goes_before_the_stack(operator: Operator) -> None:
    """A running job is stopped; endpoint configs, models and logs are removed; other stages' stay."""
    cloud = operator.cloud
    job = start_job(cloud, f"whippet-{NOT_THERE}-dogs-train")
    make_serving(cloud, f"whippet-{NOT_THERE}-dogs", "whippet-made-dogs")
    make_logs_roles(cloud, "us-east-1", "eu-west-1")
    cloud.client("logs").create_log_group(logGroupName=f"/aws/sagemaker/Endpoints/whippet-{NOT_THERE}-dogs")
    said = operator.destroy(NOT_THERE)
    assert said.code == 0, said.err
    assert f"Stopping TrainingJob {job}" in said.out
    assert cloud.sagemaker.describe_training_job(TrainingJobName=job)["TrainingJobStatus"] == "Stopped"
    assert f"Deleting EndpointConfig whippet-{NOT_THERE}-dogs" in said.out
    assert f"Deleting Model whippet-{NOT_THERE}-dogs" in said.out
    assert f"Deleting log group /aws/sagemaker/Endpoints/whippet-{NOT_THERE}-dogs" in said.out
    assert [each["ModelName"] for each in cloud.sagemaker.list_models(NameContains="whippet-made")["Models"]]
    roles = [each["RoleName"] for each in cloud.client("iam").list_roles()["Roles"]]
    assert [name for name in roles if NOT_THERE in name] == [f"whippet-{NOT_THERE}-ApiLogsRole-eu-west-1"]


def make_logs_roles(cloud: LocalCloud, *regions: str) -> None:
    """Create roles for API Gateway's logs as a failed deployment leaves them, one for each region."""
    for region in regions:
        told = f"API Gateway of this account writes its access logs of {region} with it."
        name = f"whippet-{NOT_THERE}-ApiLogsRole-{region}"
        cloud.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}", Description=told)


def start_job(cloud: LocalCloud, name: str) -> str:
    """Start a training that would take an hour."""
    program = pack({"train.py": "import time; time.sleep(3600)"})
    cloud.s3.put_object(Bucket=cloud.bucket, Key="sleep.tar.gz", Body=program)
    code, output = f"s3://{cloud.bucket}/sleep.tar.gz", f"s3://{cloud.bucket}/out"
    cloud.sagemaker.create_training_job(**build_training_request(name, code, output))
    return name


def make_serving(cloud: LocalCloud, *names: str) -> None:
    """Create a model and an endpoint config of each name."""
    cloud.s3.put_object(Bucket=cloud.bucket, Key="m.tar.gz", Body=b"never opened")
    image = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312"
    container: Any = {"Image": image, "ModelDataUrl": f"s3://{cloud.bucket}/m.tar.gz"}
    for name in names:
        role = "arn:aws:iam::123456789012:role/x"
        cloud.sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
        serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 1}
        variant = {"VariantName": "all", "ModelName": name, "ServerlessConfig": serverless}
        cloud.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
