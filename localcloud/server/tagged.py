"""Answer which resources carry a tag: moto's of every service, and SageMaker's, which moto does not know."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from localcloud.protocol.wsgi import Environ, WsgiApp, answer_json, call

Tags = Mapping[str, str]
ListTagged = Callable[[], Iterable[tuple[str, Tags]]]


class Tagged:
    """moto's Resource Groups Tagging API with our resources added. `list_ours` gives their ARNs and tags.

    Ours all come on the last page, however many there are; AWS's pages hold a hundred at most.
    """

    def __init__(self, moto: WsgiApp, list_ours: ListTagged) -> None:
        self._moto, self._list_ours = moto, list_ours

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        if not environ.get("HTTP_X_AMZ_TARGET", "").endswith(".GetResources"):
            return self._moto(environ, start_response)
        sent = environ["wsgi.input"].read()
        environ["wsgi.input"] = io.BytesIO(sent)
        status, _headers, pieces = call(self._moto, environ)
        answer = json.loads(b"".join(pieces))
        if status.startswith("200") and not answer.get("PaginationToken"):
            answer["ResourceTagMappingList"] += self._describe(json.loads(sent or b"{}"))
        return answer_json(start_response, answer, status)

    def _describe(self, told: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        for arn, tags in self._list_ours():
            if is_asked_for(arn, tags, told):
                pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
                yield {"ResourceARN": arn, "Tags": pairs}


def is_asked_for(arn: str, tags: Tags, told: Mapping[str, Any]) -> bool:
    """Return whether a resource passes all of a request's filters. A resource without tags never does."""
    kinds, arns = told.get("ResourceTypeFilters", []), told.get("ResourceARNList", [])
    kind = f"sagemaker:{arn.rpartition(':')[2].partition('/')[0]}"
    passes = all(
        each["Key"] in tags and (not each.get("Values") or tags[each["Key"]] in each["Values"])
        for each in told.get("TagFilters", [])
    )
    is_of_kind = not kinds or bool({"sagemaker", kind} & set(kinds))
    return bool(tags) and passes and is_of_kind and (not arns or arn in arns)
