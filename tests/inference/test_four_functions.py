"""model_fn, input_fn, predict_fn and output_fn, called in AWS's order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from refusals import Refusal

from inference import Classifier, input_fn, model_fn, output_fn, predict_fn
from tests.support.image_kinds import draw, encode
from tests.support.model_archives import write_model

JPEG = encode(draw(120, 90), "JPEG")


@pytest.fixture(scope="module")
def classifier(model_dir: Path) -> Classifier:
    return model_fn(str(model_dir))


def ask(classifier: Classifier, body: bytes, content_type: str = "image/jpeg") -> dict[str, Any]:
    answer, _ = output_fn(predict_fn(input_fn(body, content_type), classifier), "application/json")
    result: dict[str, Any] = json.loads(answer)
    return result


def test_the_answer_names_all_classes_best_first(classifier: Classifier) -> None:
    """One result for one image: each class once, probabilities falling and adding up to one, and the run."""
    answer = ask(classifier, JPEG)
    predictions = answer["results"][0]["predictions"]
    probabilities = [one["probability"] for one in predictions]
    assert {one["class"] for one in predictions} == {"cat", "dog", "whippet"}
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert answer["run_id"] == "whippet-local-digits-0123abcd"


@pytest.mark.parametrize(("threshold", "known"), [(-1e9, True), (1e9, False)])
def test_an_image_that_fits_no_class_is_told(tmp_path: Path, threshold: float, known: bool) -> None:
    """By the manifest's rule; where it fits none, the nearest classes are named. Without a rule nothing is said."""
    folder = write_model(tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    for unknown in (None, {"method": "max_logit", "threshold": threshold, "images": 120}):
        (folder / "manifest.json").write_text(json.dumps(manifest | {"unknown": unknown}))
        [result] = ask(model_fn(str(folder)), JPEG)["results"]
        names = [each["class"] for each in result["predictions"]]
        assert result.get("known") == (known if unknown else None)
        assert result.get("nearest") == (names[:3] if unknown and not known else None)


def test_a_rule_that_this_code_lacks_is_refused(tmp_path: Path) -> None:
    """A manifest of a later version is not read in part."""
    folder = write_model(tmp_path / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"unknown": {"method": "by ear", "threshold": 0.0}}))
    with pytest.raises(ValueError, match="'by ear', which this code lacks"):
        model_fn(str(folder))


def test_the_same_picture_gets_the_same_answer(classifier: Classifier) -> None:
    """Prediction has no memory and no randomness."""
    assert ask(classifier, JPEG) == ask(classifier, JPEG)


@pytest.mark.parametrize(
    "content_type",
    ["image/jpeg", "IMAGE/JPEG", "image/jpeg; charset=binary", "application/octet-stream", "application/x-image", None],
)
def test_content_types_that_say_image_are_taken(content_type: str | None) -> None:
    """The content types that clients send for an image are accepted, and the bytes decide what it is."""
    assert input_fn(JPEG, content_type).size == (120, 90)


def test_a_png_called_a_jpeg_is_read() -> None:
    """A wrong image type on a sound image is no reason to refuse it."""
    assert input_fn(encode(draw(30, 20)), "image/jpeg").size == (30, 20)


@pytest.mark.parametrize("content_type", ["text/plain", "text/csv", "image/gif", "multipart/form-data; boundary=x"])
def test_other_content_types_are_refused(content_type: str) -> None:
    """415, naming the types that are supported."""
    with pytest.raises(Refusal, match="image/png") as caught:
        input_fn(JPEG, content_type)
    assert caught.value.status_code == 415


def test_text_is_refused_as_text() -> None:
    """AWS's handler decodes CSV bodies to text before input_fn sees them: 415, no crash."""
    with pytest.raises(Refusal) as caught:
        input_fn("{}", "text/csv")
    assert caught.value.status_code == 415


def test_an_empty_body_is_refused() -> None:
    """400: nothing was sent."""
    with pytest.raises(Refusal) as caught:
        input_fn(b"", "image/png")
    assert caught.value.status_code == 400


def test_more_than_the_door_takes_is_refused() -> None:
    """413 above 25 MB, before any decoding."""
    with pytest.raises(Refusal) as caught:
        input_fn(bytes(25_000_001), "image/png")
    assert caught.value.status_code == 413


def test_five_megabytes_are_read() -> None:
    """An image of 5 MB is ordinary."""
    noise = torch.randint(0, 256, (1300, 1300, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = encode(Image.fromarray(noise.numpy()))
    assert len(data) > 5_000_000
    assert input_fn(data, "image/png").size == (1300, 1300)


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", None, "text/html, application/json;q=0.9", "application/*"]
)
def test_accept_that_allows_json_gets_json(accept: str | None) -> None:
    """The answer's type is given, whatever else the caller would have preferred."""
    assert output_fn({"results": []}, accept) == ('{"results": []}', "application/json")


def test_accept_without_json_is_refused() -> None:
    """406: there is no CSV."""
    with pytest.raises(Refusal) as caught:
        output_fn({"results": []}, "text/csv")
    assert caught.value.status_code == 406


def test_a_refusal_is_one_line_of_json() -> None:
    """AWS's handler appends a traceback after a line break, so the first line must be whole."""
    with pytest.raises(Refusal) as caught:
        input_fn(b"", "image/png")
    assert json.loads(caught.value.message)["error"] == {
        "code": "BadRequest",
        "message": "The body is empty. Send the bytes of an image.",
    }
    assert "\n" not in caught.value.message


def test_another_manifest_format_is_refused(tmp_path: Path) -> None:
    """An archive of another format is refused, not guessed at."""
    with pytest.raises(ValueError, match="format 2, and this code reads 1"):
        model_fn(str(write_model(tmp_path / "model", format=2)))


def test_unknown_members_of_the_manifest_are_ignored(tmp_path: Path) -> None:
    """Training may write more than inference reads."""
    assert model_fn(str(write_model(tmp_path / "model", invented=True))).manifest["invented"]


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """A state dictionary that does not fit is a clear error at loading, not a wrong answer later."""
    folder = write_model(tmp_path / "model")
    torch.save({"fc.weight": torch.zeros(1)}, folder / "model.pth")
    with pytest.raises(ValueError, match=r"is no shufflenet_v2_x0_5"):
        model_fn(str(folder))


def test_a_pickle_with_code_is_not_executed(tmp_path: Path) -> None:
    """Weights are read with weights_only: an archive cannot run code while it is loaded."""
    folder = write_model(tmp_path / "model")
    torch.save({"weights": Path("/")}, folder / "model.pth")
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        model_fn(str(folder))
