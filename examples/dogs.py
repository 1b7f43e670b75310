"""Make the composite of the README: two dogs whose colours are shifted to green.

    python examples/dogs.py PHOTO MASK

PHOTO is friends_by_Aitzol_Berasategi.jpg of the Debian package lomiri-wallpapers-16.04.
MASK is its foreground mask, a PNG. Both are cropped and scaled down. Red, green and blue of the foreground are
multiplied by 0.8, 1.2 and 0.75.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).parent
BOX = (0.05, 0.17, 1.0, 0.70)  # left, top, right and bottom as shares of the photo's width and height
WIDTH = 1280
FACTORS = np.array([0.8, 1.2, 0.75])

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo", type=Path)
parser.add_argument("mask", type=Path)
arguments = parser.parse_args()

photo, mask = Image.open(arguments.photo).convert("RGB"), Image.open(arguments.mask).convert("L")
corners = [round(share * side) for share, side in zip(BOX, photo.size * 2, strict=True)]
size = WIDTH, round(WIDTH * (corners[3] - corners[1]) / (corners[2] - corners[0]))
photo, mask = (image.crop(corners).resize(size, Image.Resampling.LANCZOS) for image in (photo, mask))
pixels, share = np.asarray(photo, np.float64), np.asarray(mask, np.float64)[..., None] / 255
recolored = share * (pixels * FACTORS).clip(0, 255) + (1 - share) * pixels
Image.fromarray(recolored.round().astype(np.uint8)).save(OUT / "dogs_composite.jpg", quality=88)
mask.save(OUT / "dogs_mask.png", optimize=True)
