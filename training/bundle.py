"""Copy a trained checkpoint into the package: its weights in half precision, its two configurations and the graph
for onnxruntime (which needs `pip install "aict_hf[onnx]"`).

    python training/bundle.py out/3 aict-small
    python training/bundle.py out/2 out/3 aict-small      # the average of two runs of which one began from the other

Averaged weights often generalize better than either checkpoint (Wortsman et al., "Model soups", ICML 2022).
Then measure the checkpoint with the commands in training/fill_figures.py. Git keeps every version, so replace a bundled
checkpoint rarely.
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import save_file

from aict_hf.export.converter import stored_state_dict
from aict_hf.export.network_graph import write_network_graph
from aict_hf.files.atomic_write import atomic_file
from aict_hf.pretrained import DEFAULT_CHECKPOINT, load_checkpoint

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("checkpoints", nargs="+", help="output folders of training/train.py; several are averaged")
parser.add_argument("name", help="name of the bundled checkpoint: its folder in aict_hf/checkpoints")
arguments = parser.parse_args()

model, processor = load_checkpoint(arguments.checkpoints[0])
states = [load_checkpoint(name)[0].state_dict() for name in arguments.checkpoints]
if any(state.keys() != states[0].keys() for state in states):
    raise SystemExit("bundle.py: the checkpoints are different networks; only one network's weights can be averaged")
model.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
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
write_network_graph(folder)
print(f"wrote {folder}: {(folder / 'model.safetensors').stat().st_size / 2**20:.1f} MiB")
