"""A server of the champion of `NAME` written with LitServe, as its documentation does it.

    python -m benchmarks.peers.litserve PORT

PNG files in multipart forms, labels and probabilities back, in batches of up to 64 images that wait 2 ms, as those of
`darkroom serve`. LitServe has a process for HTTP and another one for the model.
"""

import io
import sys
from typing import Any

import litserve
import numpy as np
from benchmarks.served import HOST, NAME
from PIL import Image

BATCH_SIZE = 64
WAIT_SECONDS = 0.002


class Champion(litserve.LitAPI):
    def setup(self, device: str) -> None:
        import mlflow
        import torch

        self.torch = torch
        self.model = mlflow.pytorch.load_model(f"models:/{NAME}@champion", map_location=device)

    # LitServe would take the request for a parameter of the address if it had an annotation.
    def decode_request(self, request) -> np.ndarray:  # type: ignore[no-untyped-def]
        return np.asarray(Image.open(io.BytesIO(request["images"].file.read())).convert("L"))[None]

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        return np.stack(inputs)

    def predict(self, inputs: np.ndarray) -> list[list[float]]:
        with self.torch.inference_mode():
            logits = self.model(self.torch.from_numpy(inputs))
            probabilities: list[list[float]] = logits.softmax(1).tolist()
        return probabilities

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        return {"label": str(int(np.argmax(output))), "probabilities": {str(n): p for n, p in enumerate(output)}}


def main() -> None:
    server = litserve.LitServer(
        Champion(max_batch_size=BATCH_SIZE, batch_timeout=WAIT_SECONDS), accelerator="cpu", timeout=30
    )
    server.run(host=HOST, port=int(sys.argv[1]), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
