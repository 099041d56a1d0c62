"""Build training jobs whose program is a few lines of Python, to measure the cloud without any training."""

from __future__ import annotations

import io
import tarfile
from typing import Any

from tests.support.local_cloud import LocalCloud

IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.10.0-cpu-py313-ubuntu22.04-sagemaker"
ROLE = "arn:aws:iam::123456789012:role/service-role/benchmark"


def upload_program(cloud: LocalCloud, source: str) -> str:
    """Put a source tarball that holds `train.py` into the bucket. Returns its S3 URI."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("train.py")
        member.size = len(source.encode())
        archive.addfile(member, io.BytesIO(source.encode()))
    cloud.s3.put_object(Bucket=cloud.bucket, Key="code/benchmark.tar.gz", Body=buffer.getvalue())
    return f"s3://{cloud.bucket}/code/benchmark.tar.gz"


def build_training_request(cloud: LocalCloud, name: str, code_uri: str) -> dict[str, Any]:
    """Build a CreateTrainingJob request in script mode, without channels."""
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": f"s3://{cloud.bucket}/benchmark/"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "HyperParameters": {"sagemaker_program": '"train.py"', "sagemaker_submit_directory": f'"{code_uri}"'},
    }
