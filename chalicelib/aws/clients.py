"""Create AWS clients and translate their errors: the only module that imports boto3.

The other modules of this room wrap one service each, and every class is given its boto3 client. boto3 is imported on
first use, because importing it takes longer than importing the whole app.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from chalicelib.aws.errors import translate

# By default S3 is addressed by its global host, which answers 307 for up to a day after a bucket was created, and which
# regions newer than 2019 refuse: a signed URL would name the wrong host.
REGIONAL = {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"}


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise botocore's errors from the enclosed block as errors of ours. `doing` says what was being done."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise translate(error, doing) from error


def connect(service: str, *, read_timeout: float = 30, tries: int = 4) -> Any:
    """Create a boto3 client for the environment's account and region. Times are in seconds."""
    import boto3
    from botocore.config import Config

    retries = {"mode": "standard", "total_max_attempts": tries}
    agent = f"whippet Boto3/{boto3.__version__}"  # botocore's own is put together from 30 parts again at each call
    config = Config(connect_timeout=3, read_timeout=read_timeout, retries=retries, tcp_keepalive=True, user_agent=agent)
    if service == "s3":  # the default for signed URLs is still version 2, which newer regions refuse
        config = config.merge(Config(signature_version="s3v4", s3=REGIONAL))
    with translated(f"Connecting to {service}"):
        return boto3.client(service, config=config)
