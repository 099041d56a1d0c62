"""Runs in AWS's environment: a model directory served by AWS's own handler, one request a line.

    python answer_with_toolkit.py MODEL_DIR < requests > answers

A request is {"body" (base64), "content_type", "accept"}, an answer {"status", "content_type", "body"}. The context is
what AWS's server hands to the handler, as far as the handler looks at it.
"""

from __future__ import annotations

import base64
import json
import sys

from sagemaker_pytorch_serving_container.handler_service import HandlerService


class RequestProcessor:
    """The headers of a request, and the status of its response."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.headers = headers
        self.status = 200

    def get_request_properties(self) -> dict[str, str]:
        return self.headers


class Context:
    """What the model server tells the handler, and what the handler tells it."""

    model_name = "model"

    def __init__(self, model_dir: str) -> None:
        self.system_properties = {"model_dir": model_dir}
        self.request_processor: list[RequestProcessor] = []
        self.content_type: str | None = None

    def set_response_content_type(self, _index: int, value: str) -> None:
        self.content_type = value

    def set_response_status(self, code: int, phrase: str) -> None:
        self.request_processor[0].status = code


def answer(service: HandlerService, context: Context, request: dict[str, str]) -> dict[str, object]:
    headers = {"Content-Type": request["content_type"], "Accept": request["accept"]}
    context.request_processor = [RequestProcessor(headers)]
    context.content_type = None
    body = service.handle([{"body": base64.b64decode(request["body"])}], context)[0]
    return {"status": context.request_processor[0].status, "content_type": context.content_type, "body": body}


def main() -> None:
    context = Context(sys.argv[1])
    service = HandlerService()
    service.initialize(context)
    for line in sys.stdin:
        print(json.dumps(answer(service, context, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
