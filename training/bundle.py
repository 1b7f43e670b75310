"""Copy a trained checkpoint into the package: its weights in half precision and its two configurations.

    python training/bundle.py out/small aict-small

Then measure the checkpoint with the commands in training/fill_figures.py. Git keeps every version, so replace a bundled
checkpoint rarely.
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import save_file

from aict_hf.export.converter import stored_state_dict
from aict_hf.files.atomic_write import atomic_file
from aict_hf.pretrained import DEFAULT_CHECKPOINT, load_checkpoint

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoint", help="output folder of training/train.py")
parser.add_argument("name", help="name of the bundled checkpoint: its folder in aict_hf/checkpoints")
arguments = parser.parse_args()

model, processor = load_checkpoint(arguments.checkpoint)
folder = Path(DEFAULT_CHECKPOINT).parent / arguments.name
folder.mkdir(exist_ok=True)
with atomic_file(folder / "model.safetensors") as partial:
    weights = {name: tensor.contiguous() for name, tensor in stored_state_dict(model, "float16").items()}
    save_file(weights, partial, metadata={"format": "pt"})
for name, part in (("config.json", model.config), ("preprocessor_config.json", processor)):
    fields = json.loads(part.to_json_string())
    fields.pop("auto_map", None)  # the code is part of the package
    with atomic_file(folder / name) as partial:
        partial.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n")
print(f"wrote {folder}: {(folder / 'model.safetensors').stat().st_size / 2**20:.1f} MiB")
