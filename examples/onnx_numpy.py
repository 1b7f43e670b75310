"""Harmonize a composite with the ONNX graphs: NumPy, Pillow and onnxruntime, no torch.

aict export aict-small graphs --format onnx
python examples/onnx_numpy.py graphs examples/dandelion_composite.jpg examples/dandelion_mask.png out.png
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def shrunk(image, side):
    """A (H, W, C) image at side x side: bilinear between the four pixels around each sample, without antialiasing."""
    for axis in (0, 1):
        length = image.shape[axis]
        place = ((np.arange(side) + 0.5) * length / side - 0.5).clip(0, length - 1)
        low = np.minimum(place.astype(int), max(length - 2, 0))
        share = (place - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        high = np.minimum(low + 1, length - 1)
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return image


def tensor(image):
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)


folder, composite_path, mask_path, out_path = sys.argv[1:]
network = onnxruntime.InferenceSession(f"{folder}/parameter_network.onnx")
luts = onnxruntime.InferenceSession(f"{folder}/apply_luts.onnx")
side = json.loads(Path(folder, "preprocessor_config.json").read_text())["size"]["height"]
composite = np.asarray(ImageOps.exif_transpose(Image.open(composite_path)).convert("RGB")) / 255
mask = np.asarray(ImageOps.exif_transpose(Image.open(mask_path)).convert("L"))[..., None] / 255
small = np.round(shrunk(composite, side) * 255) / 255  # in whole levels, as the network was trained
knots, color_lut = network.run(None, {"pixel_values": tensor(small), "mask": tensor(shrunk(mask, side))})
photo = {"composite": tensor(composite), "mask": tensor(mask), "knots": knots, "color_lut": color_lut}
[harmonized] = luts.run(None, photo)
Image.fromarray((harmonized[0].transpose(1, 2, 0) * 255).round().astype(np.uint8)).save(out_path)
