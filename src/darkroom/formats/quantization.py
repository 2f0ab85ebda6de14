"""Quantize an ONNX model to 8-bit integers: smaller, and faster on processors with instructions for them.

Static quantization with ONNX Runtime (Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018): the ranges of activations are those that calibration images show.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from darkroom.data.batches import CPU, Split
from darkroom.formats.onnx import INPUT, save_onnx
from darkroom.utils.scratch import scratch_directory

CALIBRATION_BATCH = 64
# All layers with weights, and what is then computed with the layer before it. Max pooling in 8 bits takes more than
# twice as long as in fp32 (measured), and normalizing the pixels in them would throw away some of what they say.
QUANTIZED = ["Conv", "Gemm", "MatMul", "Relu"]


def quantize_int8(
    full: Path, calibration: Split, metadata: Mapping[str, Any], path: Path, advance: Callable[[int], object]
) -> None:
    """Write the ONNX model ``full``, which computes in fp32, to ``path`` with weights and activations of 8 bits.

    ``calibration`` are images like those that it will see, but not those that it is judged by. ``metadata`` goes into
    the file; ``advance`` is called after each batch of images with their number.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with scratch_directory() as place:
        folded, quantized = place / "folded.onnx", place / "quantized.onnx"
        # Symbolic shapes are for transformers whose shapes ONNX's own inference cannot find, and need sympy.
        quant_pre_process(full, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            quantized,
            _Reader(calibration, advance),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=QUANTIZED,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Weights of 7 bits: with 8, sums overflow on x86 processors without VNNI, and the answers would be others.
            reduce_range=True,
        )
        save_onnx(onnx.load(quantized), metadata, path)


class _Reader:
    """The calibration images, in the form that ONNX Runtime asks for them."""

    def __init__(self, split: Split, advance: Callable[[int], object]) -> None:
        self.batches = self._read(split, advance)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self.batches, None)

    def _read(self, split: Split, advance: Callable[[int], object]) -> Iterator[dict[str, NDArray[Any]]]:
        for images, _ in split.in_order(CALIBRATION_BATCH, CPU):
            yield {INPUT: images.numpy()}
            advance(len(images))
