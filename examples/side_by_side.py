"""Put composite, mask and result into one picture, as in the README.

python examples/side_by_side.py examples/dogs_composite.jpg examples/dogs_mask.png examples/demo.jpg
"""

import argparse
from pathlib import Path

from PIL import Image

from aict_hf import Harmonizer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("composite", type=Path)
parser.add_argument("mask", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("--height", type=int, default=360, help="of the picture, in pixels")
arguments = parser.parse_args()

harmonizer = Harmonizer.from_pretrained()
composite, mask = Image.open(arguments.composite), Image.open(arguments.mask)
panels = [composite, mask.convert("RGB"), harmonizer(composite, mask)]

width = round(composite.width * arguments.height / composite.height)
gap = 8
picture = Image.new("RGB", (3 * width + 2 * gap, arguments.height), "white")
for index, panel in enumerate(panels):
    picture.paste(panel.resize((width, arguments.height), Image.Resampling.LANCZOS), (index * (width + gap), 0))
picture.save(arguments.output, quality=90)
print(f"wrote {arguments.output}")
