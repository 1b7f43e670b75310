"""The `aict` command."""

import json
import signal
import sys
from enum import Enum
from logging import CRITICAL
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from .augment.options import AugmentJob, CopyPasteOptions, DatasetFormat
from .errors import InputError, one_line
from .files.images import DEFAULT_MAX_MEGAPIXELS

app = typer.Typer(
    help="High-resolution image harmonization: fit the colours of a pasted object to the photo around it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class StoredDtype(str, Enum):
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


class Engine(str, Enum):
    local = "local"
    ray = "ray"


class ExportFormat(str, Enum):
    hub = "hub"
    onnx = "onnx"
    torch = "torch"


# What several commands take.
MaskArgument = Annotated[
    Path | None,
    typer.Argument(help="Its foreground mask, white on black. Left out, the composite's alpha is the mask."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(help="A bundled checkpoint's name, a folder or a Hub repository.", show_default="bundled"),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps ...", show_default="cuda where there is one")
]
EngineOption = Annotated[Engine, typer.Option(help="Ray runs on a cluster too (an extra: aict_hf[augment,ray]).")]
GpusOption = Annotated[float, typer.Option(min=0, help="With Ray: the share of a GPU that each worker has.")]
NaiveOption = Annotated[bool, typer.Option("--naive", help="Paste without harmonizing, as a baseline.")]
MaxMegapixelsOption = Annotated[float, typer.Option(min=0, help="Refuse larger images.")]


@app.command()
def harmonize(
    composite: Annotated[Path, typer.Argument(help="The photo with the pasted foreground, or a folder of them.")],
    mask: MaskArgument = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file (or folder) to write.", show_default=False)
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="The folder of masks, with a folder of composites.")] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="Share of the change to apply.")] = 1.0,
    invert_mask: Annotated[
        bool, typer.Option("--invert-mask", help="Fit the background to the foreground instead.")
    ] = False,
    model: ModelOption = None,
    device: DeviceOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Composites of a folder that are worked on at once.")] = 4,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write outputs of a folder again that exist already.")
    ] = False,
    max_megapixels: MaxMegapixelsOption = DEFAULT_MAX_MEGAPIXELS,
    engine: EngineOption = Engine.local,
    workers: Annotated[int, typer.Option(min=1, help="With Ray: how many networks work on a folder.")] = 1,
    gpus_per_worker: GpusOption = 0.0,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a CSV with size, mask area, disharmony and time of each file.", show_default=False),
    ] = None,
) -> None:
    """Harmonize one composite, or a folder of them (finished ones are skipped, so it can be resumed)."""
    from .harmonize.files import Job, check_output, find_jobs, harmonize_files, write_report
    from .pretrained import load_checkpoint

    if output is None:
        raise InputError("--output is missing; say where to write with -o")
    if report is not None:
        _check_table(report)
    if composite.is_dir():
        if masks is None or mask is not None:
            raise InputError(f"{composite}: is a folder; give the folder of its masks with --masks")
        jobs, failures = find_jobs(composite, masks, output)
        for folder in (composite, masks):
            if output.exists() and output.samefile(folder):
                raise InputError(f"{output}: is one of the inputs; choose another folder, so that nothing is lost")
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: cannot be made a folder ({error.strerror})") from error
    else:
        if masks is not None:
            raise InputError("--masks goes with a folder of composites; give the one mask as the second argument")
        if not composite.exists():
            raise InputError(f"{composite}: no such file; check the path")
        jobs, failures = [Job(composite, mask, output)], []
        check_output(jobs[0])

    if engine == Engine.local and (workers > 1 or gpus_per_worker):
        raise InputError("--workers and --gpus-per-worker go with --engine ray")
    options: dict[str, Any] = {
        "strength": strength,
        "invert_mask": invert_mask,
        "batch_size": batch_size,
        "max_megapixels": max_megapixels,
        "skip_existing": composite.is_dir() and not overwrite,
        "measure": report is not None,
        "warn": lambda message: _say(f"warning: {message}"),
        "progress": sys.stderr.isatty(),
    }
    try:
        if engine == Engine.ray:
            from .ray_engine import harmonize_with_ray

            options |= {"workers": workers, "gpus_per_worker": gpus_per_worker}
            done = harmonize_with_ray(jobs, model, device=_worker_device(device, gpus_per_worker), **options)
        else:
            done = harmonize_files(jobs, *load_checkpoint(model, device=_device(device)), **options)
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to go on")
        raise typer.Exit(130) from None
    failures += done.failures
    for failure in failures:
        _say(f"error: {failure}")
    if composite.is_dir():
        _say(f"{done.written} written, {done.skipped} skipped as finished, {len(failures)} failed")
    if report is not None:
        write_report(report, done.files)
        if done.skipped:
            _say(f"{report}: lists the {len(done.files)} files of this run, not the {done.skipped} skipped ones")
    if failures:
        raise typer.Exit(1)


@app.command()
def score(
    composite: Annotated[Path, typer.Argument(help="A composite, or a folder of them.")],
    mask: MaskArgument = None,
    masks: Annotated[Path | None, typer.Option(help="The folder of masks, with a folder of composites.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a CSV too.", show_default=False)] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Composites that are worked on at once.")] = 4,
    max_megapixels: MaxMegapixelsOption = DEFAULT_MAX_MEGAPIXELS,
) -> None:
    """List composites by how badly their foreground's colours fit, the worst first.

    The figure is the mean CIEDE2000 between the foreground and its harmonized colours: 0 fits, 5 is plain to see.
    """
    from .harmonize.files import Job, find_jobs, harmonize_files, write_report
    from .pretrained import load_checkpoint

    if output is not None:
        _check_table(output)
    if composite.is_dir():
        if masks is None or mask is not None:
            raise InputError(f"{composite}: is a folder; give the folder of its masks with --masks")
        jobs, failures = find_jobs(composite, masks, None)
    elif masks is not None:
        raise InputError("--masks goes with a folder of composites; give the one mask as the second argument")
    elif not composite.exists():
        raise InputError(f"{composite}: no such file; check the path")
    else:
        jobs, failures = [Job(composite, mask, None)], []
    try:
        done = harmonize_files(
            jobs,
            *load_checkpoint(model, device=_device(device)),
            batch_size=batch_size,
            max_megapixels=max_megapixels,
            measure=True,
            warn=lambda message: _say(f"warning: {message}"),
            progress=sys.stderr.isatty(),
        )
    except KeyboardInterrupt:
        _say("interrupted; no scores were written")
        raise typer.Exit(130) from None
    ranked = sorted(done.files, key=lambda file: -1.0 if file.disharmony is None else file.disharmony, reverse=True)
    for file in ranked:
        if file.disharmony is not None:
            typer.echo(f"{file.disharmony:6.2f}  {file.composite}")
    if output is not None:
        write_report(output, ranked)
    failures += done.failures
    for failure in failures:
        _say(f"error: {failure}")
    if failures:
        raise typer.Exit(1)


@app.command()
def compose(
    foreground: Annotated[Path, typer.Argument(help="What to paste: a cut-out with an alpha channel, or a photo.")],
    background: Annotated[Path, typer.Argument(help="The photo to paste it into.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.", show_default=False)
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="The foreground's mask, where its alpha is none.")] = None,
    position: Annotated[
        str | None,
        typer.Option(metavar="X,Y", help="Where its centre goes, in pixels.", show_default="the photo's centre"),
    ] = None,
    scale: Annotated[float, typer.Option(help="Its magnification.")] = 1.0,
    rotation: Annotated[float, typer.Option(help="Degrees, counterclockwise.")] = 0.0,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror it, before rotating.")] = False,
    feather: Annotated[float, typer.Option(min=0, help="Width of a soft edge, in pixels.")] = 0.0,
    decontaminate: Annotated[
        bool, typer.Option("--decontaminate", help="Take its old background out of translucent edges.")
    ] = False,
    strength: Annotated[float, typer.Option(min=0, max=1, help="Share of the change to apply.")] = 1.0,
    naive: NaiveOption = False,
    mask_out: Annotated[Path | None, typer.Option(help="Write the mask of what was pasted here.")] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    max_megapixels: MaxMegapixelsOption = DEFAULT_MAX_MEGAPIXELS,
) -> None:
    """Paste a foreground into a photo, harmonized. What hangs over the border is cut off."""
    from dataclasses import replace

    import numpy as np
    import torch
    from PIL import Image

    from .compose.paste import paste
    from .files.images import ImageFile, in_profile, read_image, write_image
    from .harmonize.files import Job, check_output
    from .pretrained import load_checkpoint

    if output is None:
        raise InputError("--output is missing; say where to write with -o")
    if mask_out is not None and mask_out.absolute() == output.absolute():
        raise InputError(f"{output}: is given for the picture and for the mask; choose two names")
    for written in (output, mask_out):
        if written is not None:
            check_output(Job(background, foreground, written))
            check_output(Job(background, mask, written))
    cutout = read_image(foreground, max_megapixels=max_megapixels)
    alpha = None if mask is None else read_image(mask, max_megapixels=max_megapixels).pixels
    photo = read_image(background, max_megapixels=max_megapixels)
    x, y = _numbers(position, "--position", float) if position else (photo.size[0] / 2, photo.size[1] / 2)
    placement = {"position": (x, y), "scale": scale, "rotation": rotation, "flip": flip}
    try:
        pasted = paste(
            in_profile(cutout, photo.rgb_profile),
            alpha,
            photo.pixels,
            **placement,  # type: ignore[arg-type]
            feather=feather,
            decontaminate=decontaminate,
        )
    except ValueError as error:
        raise InputError(f"{mask or foreground}: {error}") from error
    if pasted.box is None:
        raise InputError(f"{foreground}: nothing of it lies in the photo; is --position within {photo.size}?")
    image = pasted.image
    if not naive:
        loaded_model, processor = load_checkpoint(model, device=_device(device))
        with torch.inference_mode():
            inputs = processor(image, pasted.mask, return_tensors="pt").to(loaded_model.device)
            outputs = loaded_model(**inputs, return_harmonized=False)
        image = processor.post_process_harmonization(outputs, image, pasted.mask, strength)[0]
    pixels = image if image.dtype == np.uint16 else Image.fromarray(image)
    write_image(output, replace(photo, pixels=pixels, icc_profile=photo.rgb_profile))
    if mask_out is not None:
        write_image(mask_out, ImageFile(Image.fromarray(pasted.mask)))


def _range(low: float, high: float) -> str:
    """A default range as `_numbers` reads it."""
    return f"{low:g},{high:g}"


@app.command()
def augment(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A COCO JSON file, a YOLO folder, or whatever `datasets` reads."),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    cutouts: Annotated[
        list[Path] | None,
        typer.Option(
            help="Objects to paste: photo pools with metadata.csv, folders of cut-outs, or one COCO JSON file.",
            show_default="the dataset's own objects",
        ),
    ] = None,
    cutout_images: Annotated[
        Path | None,
        typer.Option(help="Folder of the images of a COCO file of cut-outs.", show_default="next to the file"),
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Category of cut-outs that have no other.", show_default=False)
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of a COCO file's images.", show_default="next to the file")
    ] = None,
    split: Annotated[str, typer.Option(help="Split to read, if the dataset has several.")] = AugmentJob.split,
    format: Annotated[DatasetFormat | None, typer.Option(help="Format to write.", show_default="that of IN")] = None,
    copies: Annotated[int, typer.Option(min=1, help="Augmented copies of each image.")] = AugmentJob.copies,
    keep_originals: Annotated[
        bool, typer.Option("--keep-originals", help="Write the unchanged images too.")
    ] = AugmentJob.keep_originals,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random draws.")] = CopyPasteOptions.seed,
    workers: Annotated[int, typer.Option(min=1, help="Processes. The result does not depend on their number.")] = 1,
    probability: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the images that get objects.")
    ] = CopyPasteOptions.probability,
    objects: Annotated[
        str, typer.Option(metavar="MIN,MAX", help="Number of objects that such an image gets.")
    ] = _range(*CopyPasteOptions.objects),
    strengths: Annotated[str, typer.Option(metavar="MIN,MAX", help="Strength of the harmonization, 0 to 1.")] = _range(
        *CopyPasteOptions.strengths
    ),
    size: Annotated[
        str, typer.Option(metavar="MIN,MAX", help="Longer side of an object, as a share of the image's shorter side.")
    ] = _range(*CopyPasteOptions.size),
    naive: NaiveOption = CopyPasteOptions.naive,
    max_disharmony: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Leave out objects whose colours would have to change by more than this to fit (CIEDE2000).",
            show_default="no limit",
        ),
    ] = CopyPasteOptions.max_disharmony,
    model: ModelOption = None,
    device: DeviceOption = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images that are augmented at once.")
    ] = CopyPasteOptions.batch_size,
    block_size: Annotated[
        int, typer.Option(min=1, help="Images per shard. An interrupted run resumes after the last full block.")
    ] = AugmentJob.block_size,
    engine: EngineOption = Engine.local,
    gpus_per_worker: GpusOption = 0.0,
) -> None:
    """Paste harmonized objects into the images of a dataset and update its annotations.

    Run the same command again to resume an interrupted run and retry failed images.
    """
    from .augment.files import augment_files

    if engine == Engine.local and gpus_per_worker:
        raise InputError("--gpus-per-worker goes with --engine ray")
    job = AugmentJob(
        str(source),
        str(output),
        CopyPasteOptions(
            probability=probability,
            objects=_numbers(objects, "--objects", int),
            strengths=_numbers(strengths, "--strengths", float),
            naive=naive,
            max_disharmony=max_disharmony,
            size=_numbers(size, "--size", float),
            batch_size=batch_size,
            seed=seed,
        ),
        format=format,
        images=None if images is None else str(images),
        split=split,
        cutouts=tuple(map(str, cutouts or ())),
        cutout_images=None if cutout_images is None else str(cutout_images),
        category=category,
        copies=copies,
        keep_originals=keep_originals,
        checkpoint=model,
        device=_worker_device(device, gpus_per_worker) if engine == Engine.ray else str(_device(device)),
        block_size=block_size,
    )
    try:
        if engine == Engine.ray:
            from .ray_engine import augment_with_ray

            report = augment_with_ray(
                job, workers=workers, gpus_per_worker=gpus_per_worker, progress=sys.stderr.isatty()
            )
        else:
            report = augment_files(job, workers=workers, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to resume")
        raise typer.Exit(130) from None
    for warning in report.warnings:
        _say(f"warning: {warning}")
    for failure in report.failures:
        _say(f"error: {failure}")
    if max_disharmony is not None:
        _say(f"{report.dropped} objects left out, with a disharmony above {max_disharmony:g}")
    _say(f"{report.written} images in {output} ({report.earlier} from an earlier run), {len(report.failures)} failed")
    if report.failures:
        raise typer.Exit(1)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' .pth file (or safetensors under their names).")],
    out_dir: Annotated[Path, typer.Argument(help="The folder to write.")],
    config: Annotated[
        Path | None, typer.Option(help="JSON with AICTConfig fields, where the network is not the paper's.")
    ] = None,
    dtype: Annotated[StoredDtype, typer.Option(help="How the weights are stored; they load as float32.")] = (
        StoredDtype.float32
    ),
) -> None:
    """Convert the authors' checkpoint to a folder that from_pretrained loads."""
    from huggingface_hub.errors import StrictDataclassError

    from .export.converter import convert_checkpoint
    from .model.configuration_aict import AICTConfig

    aict_config = AICTConfig()
    if config is not None:
        try:
            fields = json.loads(config.read_text())
            unknown = sorted(set(fields) - set(AICTConfig().to_dict()))
            if unknown:
                raise ValueError(f"unknown fields {', '.join(unknown)}")
            aict_config = AICTConfig(**fields)
        except (OSError, ValueError, TypeError, StrictDataclassError) as error:
            raise InputError(f"{config}: is no AICT configuration ({one_line(error)})") from error
    convert_checkpoint(checkpoint, out_dir, config=aict_config, dtype=dtype.value)
    typer.echo(f"wrote {out_dir}")


@app.command()
def export(
    checkpoint: Annotated[str, typer.Argument(help="A bundled checkpoint's name, a folder or a Hub repository.")],
    out_dir: Annotated[Path, typer.Argument(help="The folder to write.")],
    format: Annotated[
        ExportFormat, typer.Option(help="A model repository, or graphs for onnxruntime or torch.export.")
    ] = ExportFormat.hub,
    dtype: Annotated[
        StoredDtype | None, typer.Option(help="How a repository's weights are stored.", show_default="as they are")
    ] = None,
    push: Annotated[str | None, typer.Option(metavar="ORG/NAME", help="Upload the repository to the Hub.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new Hub repository private.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")] = False,
) -> None:
    """Write a complete model repository for the Hub, or graphs that run without this package."""
    if format != ExportFormat.hub:
        if push is not None or private or create_pr or dtype is not None:
            raise InputError("--push, --private, --create-pr and --dtype go with a model repository (--format hub)")
        from .export.graphs import export_graphs

        export_graphs(checkpoint, out_dir, format=format.value)
        typer.echo(f"wrote {out_dir}")
        return
    from .export.hub import export_repository, push_repository

    if push is None and (private or create_pr):
        raise InputError("--private and --create-pr go with --push ORG/NAME")
    if private and create_pr:
        raise InputError("--private is for a new repository, --create-pr for one that exists; give one of them")
    export_repository(checkpoint, out_dir, dtype=None if dtype is None else dtype.value)
    typer.echo(f"wrote {out_dir}")
    if push is not None:
        typer.echo(f"uploaded {push_repository(out_dir, push, private=private, create_pr=create_pr)}")


@app.command()
def lut(
    composite: Annotated[Path, typer.Argument(help="The photo with the pasted foreground.")],
    mask: MaskArgument = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The .cube file to write.", show_default=False)
    ] = None,
    size: Annotated[int, typer.Option(min=2, max=129, help="Nodes along each side of the LUT.")] = 33,
    model: ModelOption = None,
    max_megapixels: MaxMegapixelsOption = DEFAULT_MAX_MEGAPIXELS,
) -> None:
    """Write the foreground's mean colour transform as a .cube LUT, for Photoshop, DaVinci or ffmpeg."""
    import torch

    from .export.color_cube import cube_error, mean_curves, write_cube
    from .files.images import read_image
    from .model.image_processing_aict import photo_tensors
    from .pretrained import load_checkpoint

    if output is None or output.suffix.lower() != ".cube":
        raise InputError("--output is missing or no .cube file; say where to write with -o look.cube")
    photo = read_image(composite, max_megapixels=max_megapixels).pixels
    foreground = None if mask is None else read_image(mask, max_megapixels=max_megapixels).pixels
    loaded_model, processor = load_checkpoint(model)
    try:
        image, weight = photo_tensors(photo, foreground)
        with torch.inference_mode():
            inputs = processor(photo, foreground, return_tensors="pt")
            outputs = loaded_model(**inputs, return_harmonized=False)
            if weight.any() and not inputs["mask"].any():
                side = inputs["mask"].shape[-1]
                raise ValueError(f"the foreground is too small to show in the network's {side} x {side} copy")
            curves = mean_curves(inputs["mask"][0], outputs.knots, outputs.color_lut, size=size)
            distance, change = cube_error(image, weight, outputs.knots, outputs.color_lut, curves)
    except ValueError as error:
        raise InputError(f"{mask or composite}: {error}") from error
    write_cube(output, curves, title=f"AICT, {composite.stem}")
    share = f", {distance / change:.1%} of the change" if change else ""
    typer.echo(
        f"wrote {output}: on this photo it differs from the full result by fMSE {distance:.1f}{share} ({change:.1f})"
    )


@app.command()
def info() -> None:
    """Versions, device and bundled checkpoints."""
    import platform
    from importlib import metadata

    import torch

    from . import __version__
    from .pretrained import bundled_checkpoints

    typer.echo(f"aict_hf {__version__}, Python {platform.python_version()}")
    for package in ("torch", "transformers", "huggingface-hub", "accelerate", "safetensors", "pillow", "pyvips"):
        try:
            typer.echo(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package} not installed")
    name = (
        f" ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else f" ({torch.get_num_threads()} threads)"
    )
    typer.echo(f"device {_device(None)}{name}")
    for checkpoint, folder in bundled_checkpoints().items():
        size = (folder / "model.safetensors").stat().st_size / 2**20
        typer.echo(f"checkpoint {checkpoint}: {size:.1f} MiB in {folder}")


def main() -> None:
    """Run the command; bad input ends in one line on stderr and exit code 1, without a traceback."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.disable_progress_bar()  # a flash of "Loading weights" tells nobody anything
    for library in (logging, hub_logging):
        library.set_verbosity(CRITICAL)  # what goes wrong is said once, by us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that temporary files are cleared away
    try:
        app()
    except InputError as error:
        _say(f"error: {error}")
        sys.exit(1)


def _device(name: str | None):
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name} cannot be used ({reason}); leave it out or say cpu") from error
    return chosen


def _check_table(path: Path) -> None:
    """Refuse the name of a table before the work whose figures it is to hold."""
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: is no name of a table; expected one that ends in .csv")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written; expected a file name in a folder that exists")


def _worker_device(name: str | None, gpus_per_worker: float) -> str:
    """Where the networks of a cluster run, whose machines may have what this one lacks."""
    return name or ("cuda" if gpus_per_worker else "cpu")


Number = TypeVar("Number", int, float)


def _numbers(text: str, option: str, kind: type[Number]) -> tuple[Number, Number]:
    try:
        first, second = (kind(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} is {text!r}; expected two numbers with a comma between them") from error
    return first, second


def _say(message: str) -> None:
    typer.echo(f"aict: {message}", err=True)
