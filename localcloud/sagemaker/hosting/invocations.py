"""Serve SageMaker Runtime's InvokeEndpoint, with AWS's limits and AWS's errors."""

from __future__ import annotations

import uuid
from datetime import datetime

from localcloud.protocol.errors import ServiceError
from localcloud.sagemaker.core.cloud import Cloud, Request, Response, runtime_operation
from localcloud.sagemaker.core.records import find_record
from localcloud.sagemaker.hosting import endpoints
from localcloud.sagemaker.hosting.cold_starts import refuse_cold
from localcloud.sagemaker.hosting.deployments import Answer, Invocation, Overloaded

LARGEST_BODY = 25 * 1024 * 1024
LARGEST_SERVERLESS_BODY = 4 * 1024 * 1024
REQUEST_HEADERS = {
    "ContentType": "content-type",
    "Accept": "accept",
    "CustomAttributes": "x-amzn-sagemaker-custom-attributes",
    "InferenceId": "x-amzn-sagemaker-inference-id",
}
NOT_SUPPORTED = (
    "TargetModel",
    "TargetContainerHostname",
    "EnableExplanations",
    "InferenceComponentName",
    "SessionId",
    "PrefixAwareId",
)
TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for "
    "each container in Amazon CloudWatch, resolve the issue, and try again."
)


class ValidationError(ServiceError):
    """A request cannot be served. This is the runtime's name for it; SageMaker itself says ValidationException."""

    code = "ValidationError"


class ServiceUnavailable(ServiceError):
    """No server of the endpoint answers now."""

    code = "ServiceUnavailable"
    status = 503


class Throttled(ServiceError):
    """The endpoint has no place for another request. SageMaker says so of a serverless endpoint at its concurrency."""

    code = "ThrottlingException"
    status = 429


class ModelError(ServiceError):
    """The model's code answered with an error, or not at all. Its own status and message are members."""

    code = "ModelError"
    status = 424


@runtime_operation
async def invoke_endpoint(cloud: Cloud, request: Request) -> Response:
    """Send the body to the endpoint's model.

    Raises ValidationError (unknown or not yet serving, or too large), ModelError (an answer other than 2xx, or none
    within a minute), ModelNotReady (a simulated cold start), Throttled (a full queue) and ServiceUnavailable (no
    server).
    """
    began = cloud.clock.now()
    endpoint = _require_serving(cloud, request["EndpointName"])
    _refuse_unsupported(request)
    refuse_cold(cloud, endpoint)
    _refuse_oversize(request.get("Body", b""), LARGEST_SERVERLESS_BODY if endpoint["_serverless"] else LARGEST_BODY)
    headers = {header: request[name] for name, header in REQUEST_HEADERS.items() if name in request}
    invocation = Invocation(request.get("Body", b""), headers, request.get("TargetVariant"))
    answer = await _send_counted(cloud, endpoint, invocation, began)
    if not 200 <= answer.status < 300:
        text = answer.body.decode("utf-8", errors="replace")
        raise describe_model_error(cloud, endpoint["EndpointName"], answer.status, text)
    return _render(answer)


async def _send_counted(cloud: Cloud, endpoint: Request, invocation: Invocation, began: datetime) -> Answer:
    """Send the request, and count it with the model's time and the whole time. A model may give no answer."""
    sent = cloud.clock.now()
    status, variant = 0, invocation.variant or endpoint["ProductionVariants"][0]["VariantName"]
    try:
        answer = await _send(cloud, endpoint["EndpointName"], invocation)
        status, variant = answer.status, answer.variant
        return answer
    except Throttled as error:
        status = error.status
        raise
    except ValidationError:
        variant = ""  # there is no such variant, so nothing was invoked
        raise
    finally:
        if cloud.meter is not None and variant:
            seconds = [(cloud.clock.now() - since).total_seconds() for since in (sent, began)]
            cloud.meter.count(endpoint["EndpointName"], variant, status, *seconds)


async def _send(cloud: Cloud, endpoint: str, invocation: Invocation) -> Answer:
    try:
        answer: Answer = await cloud.serving.invoke(endpoint, invocation)
        return answer
    except LookupError as error:
        raise ValidationError(f"Could not find variant {invocation.variant} of endpoint {endpoint}.") from error
    except Overloaded as error:
        raise Throttled(f"Rate exceeded for endpoint {endpoint}: {error}.") from error
    except TimeoutError as error:
        raise describe_model_error(cloud, endpoint, 0, TIMED_OUT) from error
    except ConnectionError as error:
        raise ServiceUnavailable(f"The endpoint {endpoint} is temporarily unavailable: {error}") from error


def describe_model_error(cloud: Cloud, endpoint: str, status: int, text: str) -> ModelError:
    """Return AWS's ModelError for a container's answer. Status 0 stands for no answer."""
    side = "client" if 400 <= status < 500 else "server"
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    console = f"https://{cloud.region}.console.aws.amazon.com/cloudwatch/home?region={cloud.region}"
    return ModelError(
        f'Received {side} error ({status}) from primary with message "{text}". See '
        f"{console}#logEventViewer:group={group} in account {cloud.account} for more information.",
        members={
            "OriginalStatusCode": status,
            "OriginalMessage": text,
            "LogStreamArn": f"arn:aws:logs:{cloud.region}:{cloud.account}:log-group:{group}",
        },
    )


def _require_serving(cloud: Cloud, name: str) -> Request:
    endpoint = find_record(cloud, endpoints.KIND, name)
    if endpoint is None or endpoint["EndpointStatus"] not in endpoints.SERVING:
        raise ValidationError(f"Endpoint {name} of account {cloud.account} not found.")
    return endpoint


def _refuse_unsupported(request: Request) -> None:
    for name in NOT_SUPPORTED:
        if name in request:
            raise ValidationError(f"The local cloud does not support {name}; leave it out")


def _refuse_oversize(body: bytes, largest: int) -> None:
    if len(body) > largest:
        raise ValidationError(f"Request {uuid.uuid4()} has oversize body.")


def _render(answer: Answer) -> Response:
    return {
        "Body": answer.body,
        "ContentType": answer.headers.get("content-type"),
        "CustomAttributes": answer.headers.get("x-amzn-sagemaker-custom-attributes"),
        "InvokedProductionVariant": answer.variant,
    }
