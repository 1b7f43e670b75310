"""Inpaint a photo with a diffusers model, then fit the colours of what was generated to the photo.

pip install "aict_hf[diffusers]"
python examples/diffusers_inpaint.py photo.jpg mask.png "a ceramic vase on a table" --output_dir out/inpaint

The mask is white where the model generates. The script writes original.png, generated.png and harmonized.png to
--output_dir.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoPipelineForInpainting
from PIL import Image, ImageOps

from aict_hf.files.images import ImageFile, write_image
from aict_hf.harmonize.diffusers_aict import AICTHarmonizePipeline
from aict_hf.pretrained import load_checkpoint

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("photo", type=Path)
parser.add_argument("mask", type=Path)
parser.add_argument("prompt")
parser.add_argument("--model", default="stable-diffusion-v1-5/stable-diffusion-inpainting", help="Hub model or folder")
parser.add_argument("--padding_mask_crop", type=int, default=32, help="pixels around the mask that are inpainted, or 0")
parser.add_argument("--checkpoint", help="AICT checkpoint: a bundled name, a folder or a Hub model")
parser.add_argument("--strength", type=float, default=1.0, help="share of the colour change to apply, 0 to 1")
parser.add_argument("--steps", type=int, default=50, help="denoising steps")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output_dir", type=Path, default=Path("out/inpaint"))
arguments = parser.parse_args()

cuda = torch.cuda.is_available()
inpaint = AutoPipelineForInpainting.from_pretrained(arguments.model)
inpaint.to("cuda" if cuda else "cpu", torch.float16 if cuda else torch.float32)
harmonize = AICTHarmonizePipeline(*load_checkpoint(arguments.checkpoint)).to("cuda" if cuda else "cpu")

photo = ImageOps.exif_transpose(Image.open(arguments.photo)).convert("RGB")
mask = ImageOps.exif_transpose(Image.open(arguments.mask)).convert("L")
# With padding_mask_crop, the model inpaints only the surroundings of the mask, at its own resolution, and the result is
# laid onto the photo. Models without this argument (0) inpaint the whole photo at their own resolution.
crop = {"padding_mask_crop": arguments.padding_mask_crop} if arguments.padding_mask_crop else {}
generated = inpaint(
    arguments.prompt,
    image=photo,
    mask_image=mask,
    **crop,
    num_inference_steps=arguments.steps,
    generator=torch.Generator().manual_seed(arguments.seed),
).images[0]
original = None if crop else photo
harmonized = harmonize(generated, mask, original_image=original, strength=arguments.strength).images[0]

arguments.output_dir.mkdir(parents=True, exist_ok=True)
for name, image in {"original": photo, "generated": generated, "harmonized": harmonized}.items():
    write_image(arguments.output_dir / f"{name}.png", ImageFile(image))
print(f"wrote original.png, generated.png and harmonized.png in {arguments.output_dir}")
