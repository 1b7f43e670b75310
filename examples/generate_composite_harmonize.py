"""Generate an object, cut it out, paste it onto a photo and fit its colours to the photo.

pip install "aict_hf[diffusers]"
python examples/generate_composite_harmonize.py photo.jpg "a red teapot, product photo, plain white background" \
    --position 0.5 0.7 --size 0.4 --output_dir out/teapot

The script writes generated.png, mask.png, composite.png and harmonized.png to --output_dir. It cuts out the pixels that
differ from the colour along the generated picture's border. For a finer cut-out, run the script once, make a mask of
generated.png with a background remover, and run the script again with the same seed and --mask.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoPipelineForText2Image
from PIL import Image, ImageOps

from aict_hf.compose.paste import paste
from aict_hf.files.images import ImageFile, write_image
from aict_hf.harmonize.diffusers_aict import AICTHarmonizePipeline
from aict_hf.pretrained import load_checkpoint

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo", type=Path)
parser.add_argument("prompt")
parser.add_argument("--mask", type=Path, help="mask of the generated picture, object white")
parser.add_argument("--threshold", type=float, default=0.1, help="without --mask: difference from the background, 0..1")
parser.add_argument("--position", type=float, nargs=2, default=(0.5, 0.5), help="centre of the picture, 0..1")
parser.add_argument("--size", type=float, default=0.5, help="height of the picture, as a share of the photo's")
parser.add_argument("--model", default="stable-diffusion-v1-5/stable-diffusion-v1-5", help="Hub model or folder")
parser.add_argument("--checkpoint", help="AICT checkpoint: a bundled name, a folder or a Hub model")
parser.add_argument("--strength", type=float, default=1.0, help="share of the colour change to apply, 0 to 1")
parser.add_argument("--steps", type=int, default=50, help="denoising steps")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output_dir", type=Path, default=Path("out/composite"))
arguments = parser.parse_args()

cuda = torch.cuda.is_available()
generate = AutoPipelineForText2Image.from_pretrained(arguments.model)
generate.to("cuda" if cuda else "cpu", torch.float16 if cuda else torch.float32)
harmonize = AICTHarmonizePipeline(*load_checkpoint(arguments.checkpoint)).to("cuda" if cuda else "cpu")

photo = ImageOps.exif_transpose(Image.open(arguments.photo)).convert("RGB")
generator = torch.Generator().manual_seed(arguments.seed)
generated = generate(arguments.prompt, num_inference_steps=arguments.steps, generator=generator).images[0]
if arguments.mask:
    alpha = np.asarray(Image.open(arguments.mask).convert("L"), np.float32) / 255
else:
    pixels = np.asarray(generated, np.float32) / 255
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    difference = np.abs(pixels - np.median(border, axis=0)).max(axis=2)
    alpha = np.clip(difference / arguments.threshold - 1, 0, 1)  # rises from the threshold to twice that

position = (arguments.position[0] * photo.width, arguments.position[1] * photo.height)
scale = arguments.size * photo.height / generated.height
composite = paste(generated, alpha, photo, position=position, scale=scale, feather=1)
harmonized = harmonize(composite.image, composite.mask, strength=arguments.strength).images[0]

arguments.output_dir.mkdir(parents=True, exist_ok=True)
outputs = {
    "generated": generated,
    "mask": Image.fromarray(composite.mask),
    "composite": Image.fromarray(composite.image),
}
for name, image in {**outputs, "harmonized": harmonized}.items():
    write_image(arguments.output_dir / f"{name}.png", ImageFile(image))
print(f"wrote generated.png, mask.png, composite.png and harmonized.png in {arguments.output_dir}")
