"""Deploy an archive in a local cloud without a training, so that the app's own route serves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.servers import JPEG, Running
from chalicelib.runs.identity import make_endpoint_name
from chalicelib.settings import Settings
from tests.support.local_cloud import LocalCloud, run_local_cloud, wait_until
from tests.support.model_archives import pack_model

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-inference:2.6.0-cpu-py312"
ROLE = "arn:aws:iam::123456789012:role/service-role/benchmark"
NAME, KEY = "served", "models/served.tar.gz"


def name_endpoint(cloud: LocalCloud) -> str:
    """Return the name under which the app looks for the endpoint of the dataset `served`."""
    unused = dict.fromkeys(
        ("execution_role_arn", "tokens_secret_id", "training_image_cpu", "training_image_gpu", "inference_image_cpu",
         "inference_image_gpu", "code_uri"), "",
    )  # fmt: skip
    return make_endpoint_name(Settings(bucket=cloud.bucket, stage="local", **unused), NAME)


def deploy(cloud: LocalCloud, model: Path, folder: Path) -> None:
    """Deploy the archive, and return when its endpoint is in service."""
    cloud.s3.upload_file(str(pack_model(model, folder / "served.tar.gz")), cloud.bucket, KEY)
    environment = {"UPLOADS_ORIGIN": cloud.variables["AWS_ENDPOINT_URL"]}
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{cloud.bucket}/{KEY}", "Environment": environment}
    variant = {"VariantName": "main", "ModelName": NAME, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    name = name_endpoint(cloud)
    cloud.sagemaker.create_model(ModelName=NAME, PrimaryContainer=container, ExecutionRoleArn=ROLE)
    cloud.sagemaker.create_endpoint_config(EndpointConfigName=NAME, ProductionVariants=[variant])
    cloud.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=NAME)

    def look() -> str | None:
        status = cloud.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]
        return None if status == "Creating" else str(status)

    if (status := wait_until(look, within=120, what="the endpoint is in service")) != "InService":
        raise SystemExit(f"the endpoint is {status}: see {cloud.home}")


@contextmanager
def start_route(model: Path, body: Path, folder: Path) -> Iterator[Running]:
    """Yield the app's own route to the model, in a local cloud that ends afterwards."""
    with run_local_cloud(folder / "cloud") as cloud:
        deploy(cloud, model, folder)
        assert cloud.process is not None
        headers = JPEG | {"Authorization": f"Bearer {cloud.variables['API_TOKEN']}"}
        url = f"{cloud.variables['API_URL']}/models/{NAME}/predict"
        yield Running(url, body, cloud.process.pid, lambda: None, headers)
