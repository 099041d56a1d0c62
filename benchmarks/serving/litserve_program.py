"""Serve the archive with LitServe: its own loop around the archive's four functions.

It runs in LitServe's environment: `litserve_program.py MODEL_DIR PORT WORKERS THREADS [ENGINES]`. With a folder ENGINES
the network computes in onnxruntime as ours does. LitServe reads JSON or a form; the image is sent as a form's file.
"""

import sys
from pathlib import Path
from typing import Any

MODEL_DIR, PORT, WORKERS, THREADS = Path(sys.argv[1]), *map(int, sys.argv[2:5])
ENGINES = Path(sys.argv[5]) if len(sys.argv) > 5 else None
sys.path[:0] = [str(MODEL_DIR / "code"), str(Path(__file__).resolve().parents[2])]

import litserve  # noqa: E402
import torch  # noqa: E402

import inference  # noqa: E402


class Classify(litserve.LitAPI):
    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe names it
        torch.set_num_threads(THREADS)
        self.classifier = inference.model_fn(str(MODEL_DIR))
        if ENGINES:
            from localcloud.serving.engine import choose_engine

            self.classifier = choose_engine(self.classifier, self._classify, MODEL_DIR, ENGINES).model

    def _classify(self, classifier: Any, jpeg: bytes) -> Any:
        return inference.predict_fn(inference.input_fn(jpeg, "image/jpeg"), classifier)

    def decode_request(self, request):  # LitServe reads the annotations as schemas, so there are none
        return inference.input_fn(request["image"].file.read(), "image/jpeg")

    def predict(self, image: Any) -> Any:
        return inference.predict_fn(image, self.classifier)

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = litserve.LitServer(Classify(), accelerator="cpu", workers_per_device=WORKERS)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning")
