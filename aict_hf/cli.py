"""The `aict` command: it parses options, calls the library and prints the outcome."""

import json
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from logging import CRITICAL
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer
import wrapt

from .augment.options import AugmentJob, CopyPasteOptions, DatasetFormat
from .errors import InputError, NothingPastedError, TooLargeError, UnpairedError, one_line
from .export.options import ExportFormat, StoredDtype
from .files.options import DEFAULT_MAX_MEGAPIXELS
from .harmonize.options import ComposeOptions, HarmonizeOptions, VideoOptions

if TYPE_CHECKING:
    from .harmonize.files import Job, Report
    from .harmonize.photo_luts import IdentifiedPredictor

app = typer.Typer(
    help="High-resolution image harmonization: fit the colours of a pasted object to the photo around it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Engine = Literal["local", "ray"]
STREAM = Path("-")  # standard input or output
STREAM_FOLDER = "aict-stream-"


# Arguments and options of several commands.
MaskArgument = Annotated[
    Path | None,
    typer.Argument(help="The foreground mask, white on black. If left out, the composite's alpha channel is the mask."),
]
MasksOption = Annotated[
    Path | None,
    typer.Option(
        help="The folder of masks, if COMPOSITE is a folder. `harmonize` also takes a video of masks, or one mask, "
        "for a video.",
        show_default="photo_mask.png beside photo.jpg, or alpha",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(help="A bundled checkpoint's name, a folder or a Hub repository.", show_default="bundled"),
]
DeviceOption = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps ...", show_default="cpu with the extra fast, else cuda if available"),
]
TorchDeviceOption = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1, mps ...",
        show_default="cuda if available, else cpu; with Ray, cuda if workers have a GPU",
    ),
]
EngineOption = Annotated[
    Engine, typer.Option(help="Where the work is done. Ray also runs on a cluster (an extra: aict_hf\\[augment,ray]).")
]
GpusOption = Annotated[float, typer.Option(min=0, help="With Ray: share of a GPU for each worker.")]
NaiveOption = Annotated[bool, typer.Option("--naive", help="Paste without harmonizing, as a baseline.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Say which runtime does the work, and why.")]
StrengthOption = Annotated[float, typer.Option(min=0, max=1, help="Share of the colour change to apply.")]
MaxMegapixelsOption = Annotated[float, typer.Option(min=0, help="Refuse larger images.")]


@app.command()
def harmonize(
    composite: Annotated[
        Path,
        typer.Argument(help="A photo with a pasted foreground, a folder of them, or a video; - is standard input."),
    ],
    mask: MaskArgument = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file (or folder) to write; - is standard output.", show_default=False),
    ] = None,
    masks: MasksOption = None,
    strength: StrengthOption = HarmonizeOptions.strength,
    invert_mask: Annotated[
        bool, typer.Option("--invert-mask", help="Fit the background to the foreground instead.")
    ] = HarmonizeOptions.invert_mask,
    model: ModelOption = None,
    device: DeviceOption = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="With a folder: number of composites in one run of the network.")
    ] = HarmonizeOptions.batch_size,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With a folder: replace all outputs that exist.")
    ] = False,
    max_megapixels: MaxMegapixelsOption = HarmonizeOptions.max_megapixels,
    engine: EngineOption = "local",
    workers: Annotated[int, typer.Option(min=1, help="With Ray: number of networks that share a folder.")] = 1,
    gpus_per_worker: GpusOption = 0.0,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a CSV with size, mask area, disharmony and time of each file.", show_default=False),
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With a video: seconds over which colours are steadied. With a folder: says that its photos are the "
            "numbered frames of a clip.",
            show_default=f"{VideoOptions.smoothing:g} for a video",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(help="Frames per second of a folder of frames.", show_default=f"{VideoOptions.fps:g}"),
    ] = None,
    crf: Annotated[
        float | None,
        typer.Option(min=0, help="Quality of a written video, lower is better.", show_default="18, for .webm 24"),
    ] = None,
    verbose: VerboseOption = False,
) -> None:
    """Harmonize one composite, a folder of composites, or a video.

    Finished outputs of a folder are skipped. Run the same command again to resume an interrupted run and retry failed
    images. Outputs of other settings, or of files that have changed since, are made again.
    """
    from .files.clips import is_clip

    if output is None:
        raise InputError("--output is missing; say where to write with -o")
    if is_clip(composite) or (composite.is_dir() and smoothing is not None):
        if engine == "ray" or workers > 1 or gpus_per_worker or report is not None or overwrite:
            raise InputError(
                "--engine, --workers, --gpus-per-worker, --report and --overwrite go with photos, not clips"
            )
        given = masks or mask
        if given is None or (masks is not None and mask is not None):
            raise InputError(f"{composite}: needs its masks: a folder, a video or one still mask, with --masks")
        _harmonize_clip(
            composite,
            given,
            output,
            VideoOptions(
                smoothing=VideoOptions.smoothing if smoothing is None else smoothing,
                strength=strength,
                invert_mask=invert_mask,
                crf=crf,
                fps=VideoOptions.fps if fps is None else fps,
                max_megapixels=max_megapixels,
            ),
            model=model,
            device=device,
            own_fps=fps is not None,
            verbose=verbose,
        )
        return
    if smoothing is not None or fps is not None or crf is not None:
        raise InputError("--smoothing, --fps and --crf go with a video, or with a folder of frames and --smoothing")
    streams = STREAM in (composite, mask, output)
    if streams and (masks or report or overwrite or engine == "ray" or workers > 1 or gpus_per_worker):
        raise InputError(
            "- goes with one photo, and without --masks, --report, --overwrite, --engine ray, --workers and "
            "--gpus-per-worker; give files instead"
        )
    if engine == "local" and (workers > 1 or gpus_per_worker):
        raise InputError("--workers and --gpus-per-worker go with --engine ray")
    options = HarmonizeOptions(
        strength=strength,
        invert_mask=invert_mask,
        batch_size=batch_size,
        max_megapixels=max_megapixels,
        skip_existing=composite.is_dir() and not overwrite,
        output_folder=output if composite.is_dir() else None,
        measure=report is not None,
    )

    def run(jobs: list["Job"]) -> "Report":
        progress = sys.stderr.isatty()
        if engine == "ray":
            from .ray_engine import harmonize_with_ray

            return harmonize_with_ray(
                jobs,
                model,
                options,
                device=_worker_device(device, gpus_per_worker),
                workers=workers,
                gpus_per_worker=gpus_per_worker,
                warn=_warn,
                progress=progress,
            )
        from .harmonize.files import harmonize_files

        sys.meta_path.insert(0, _WithoutLinearAlgebra)
        return harmonize_files(jobs, _harmonizer(model, device, verbose), options, warn=_warn, progress=progress)

    if streams:
        with _files_for_streams(composite, mask, output) as (composite_file, mask_file, output_file):
            _harmonize_photos(composite_file, mask_file, None, output_file, run)
    else:
        _harmonize_photos(composite, mask, masks, output, run, report=report)


@app.command()
def score(
    composite: Annotated[Path, typer.Argument(help="A composite, or a folder of composites.")],
    mask: MaskArgument = None,
    masks: MasksOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the scores to a CSV.", show_default=False)
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Number of composites in one run of the network.")
    ] = HarmonizeOptions.batch_size,
    max_megapixels: MaxMegapixelsOption = HarmonizeOptions.max_megapixels,
    verbose: VerboseOption = False,
) -> None:
    """List composites by how badly their foreground's colours fit, the worst first.

    The score is the mean CIEDE2000 between the foreground and its harmonized colours: 0 fits, 5 is plain to see.
    """
    from .harmonize.files import harmonize_files, write_report

    if output is not None:
        _check_table(output)
    jobs, unpaired = _find_jobs(composite, mask, masks, None)
    options = HarmonizeOptions(batch_size=batch_size, max_megapixels=max_megapixels, measure=True)
    try:
        sys.meta_path.insert(0, _WithoutLinearAlgebra)
        harmonizer = _harmonizer(model, device, verbose)
        done = harmonize_files(jobs, harmonizer, options, warn=_warn, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        _say("interrupted; no scores were written")
        raise typer.Exit(130) from None
    done.add_unpaired(unpaired)
    ranked = done.worst_first()
    for file in ranked:
        if file.disharmony is not None:
            typer.echo(f"{file.disharmony:6.2f}  {file.composite}")
    if output is not None:
        write_report(output, ranked)
    _say_failures(done.failures)
    if done.failures:
        raise typer.Exit(1)


@app.command()
def compose(
    cutout: Annotated[Path, typer.Argument(help="What to paste: a cut-out with an alpha channel, or a photo.")],
    background: Annotated[Path, typer.Argument(help="The photo to paste it into.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write.", show_default=False)
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="The mask of what to paste, if it has no alpha channel.", show_default=False)
    ] = None,
    cut_out: Annotated[
        bool,
        typer.Option(
            "--cut-out", help="Find the object in the photo to paste with rembg (an extra: aict_hf\\[cutout])."
        ),
    ] = False,
    cut_out_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The model of rembg that finds the object.", show_default="isnet-general-use"
        ),
    ] = None,
    position: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y", help="Position of the object's centre, in pixels.", show_default="the photo's centre"
        ),
    ] = None,
    scale: Annotated[float, typer.Option(help="Magnification of the object.")] = ComposeOptions.scale,
    rotation: Annotated[float, typer.Option(help="Degrees, counterclockwise.")] = ComposeOptions.rotation,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mirror the object left to right, before rotating.")
    ] = ComposeOptions.flip,
    feather: Annotated[float, typer.Option(min=0, help="Width of a soft edge, in pixels.")] = ComposeOptions.feather,
    decontaminate: Annotated[
        bool | None,
        typer.Option(
            "--decontaminate/--no-decontaminate",
            help="Remove the old background's colour from translucent edges.",
            show_default="with --cut-out",
        ),
    ] = ComposeOptions.decontaminate,
    strength: StrengthOption = ComposeOptions.strength,
    naive: NaiveOption = False,
    mask_out: Annotated[
        Path | None, typer.Option(help="Write the mask of what was pasted to this file.", show_default=False)
    ] = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    max_megapixels: MaxMegapixelsOption = ComposeOptions.max_megapixels,
    verbose: VerboseOption = False,
) -> None:
    """Paste a cut-out into a photo, harmonized. Parts that hang over the border are cut off."""
    from .compose.cutout import CUT_OUT_MODEL
    from .harmonize.compose_files import compose_files

    if output is None:
        raise InputError("--output is missing; say where to write with -o")
    if cut_out and mask is not None:
        raise InputError("--cut-out finds the mask that --mask gives; leave out one of them")
    if cut_out_model is not None and not cut_out:
        raise InputError("--cut-out-model goes with --cut-out")
    options = ComposeOptions(
        position=_numbers(position, "--position", float) if position is not None else None,
        scale=scale,
        rotation=rotation,
        flip=flip,
        feather=feather,
        decontaminate=decontaminate,
        strength=strength,
        max_megapixels=max_megapixels,
    )
    harmonizer = None if naive else _harmonizer(model, device, verbose)
    try:
        compose_files(
            cutout,
            mask,
            background,
            output,
            harmonizer,
            options,
            cut_out=cut_out_model or CUT_OUT_MODEL if cut_out else None,
            mask_output=mask_out,
            warn=_warn,
            say=_say,
        )
    except NothingPastedError as error:
        width, height = error.size
        outside = f"nothing of it lies in the photo of {width} x {height} pixels; move it with --position"
        raise InputError(f"{cutout}: {error.reason or outside}") from error


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
            "--foregrounds",
            help="Objects to paste: photo pools with metadata.csv, folders of cut-outs, or one COCO JSON file.",
            show_default="the dataset's own objects",
        ),
    ] = None,
    cutout_images: Annotated[
        Path | None,
        typer.Option(
            "--foreground-images",
            help="Folder of the images of a COCO file of cut-outs.",
            show_default="next to the file",
        ),
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Category of the cut-outs that have none.", show_default=False)
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
    device: TorchDeviceOption = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images that are augmented at once.")
    ] = CopyPasteOptions.batch_size,
    block_size: Annotated[
        int, typer.Option(min=1, help="Images per shard. An interrupted run resumes after the last full block.")
    ] = AugmentJob.block_size,
    engine: EngineOption = "local",
    gpus_per_worker: GpusOption = 0.0,
) -> None:
    """Paste harmonized objects into the images of a dataset and update its annotations.

    Run the same command again to resume an interrupted run and retry failed images.
    """
    from .augment.files import augment_files
    from .harmonize.runtime import usable_device

    if engine == "local" and gpus_per_worker:
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
        device=_worker_device(device, gpus_per_worker) if engine == "ray" else str(usable_device(device)),
        block_size=block_size,
    )
    try:
        if engine == "ray":
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
    checkpoint: Annotated[Path, typer.Argument(help="The authors' .pth file, or safetensors with the same names.")],
    out_dir: Annotated[Path, typer.Argument(help="The folder to write.")],
    config: Annotated[
        Path | None,
        typer.Option(help="JSON with fields of AICTConfig, if the network is not the paper's.", show_default=False),
    ] = None,
    dtype: Annotated[StoredDtype, typer.Option(help="Type of the stored weights. They load as float32.")] = "float32",
) -> None:
    """Convert a checkpoint of the authors to a folder that from_pretrained loads."""
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
    convert_checkpoint(checkpoint, out_dir, config=aict_config, dtype=dtype)
    typer.echo(f"wrote {out_dir}")


@app.command()
def export(
    checkpoint: Annotated[str, typer.Argument(help="A bundled checkpoint's name, a folder or a Hub repository.")],
    out_dir: Annotated[Path, typer.Argument(help="The folder to write.")],
    format: Annotated[
        ExportFormat, typer.Option(help="A model repository, or graphs for onnxruntime or torch.export.")
    ] = "hub",
    dtype: Annotated[
        StoredDtype | None,
        typer.Option(help="Type of a repository's stored weights.", show_default="the checkpoint's"),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="ORG/NAME", help="Upload the repository to the Hub.", show_default=False)
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new Hub repository private.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead of committing.")] = False,
) -> None:
    """Write a complete model repository for the Hub, or graphs that run without this package."""
    if format != "hub":
        if push is not None or private or create_pr or dtype is not None:
            raise InputError("--push, --private, --create-pr and --dtype go with a model repository (--format hub)")
        from .export.graphs import export_graphs

        export_graphs(checkpoint, out_dir, format=format)
        typer.echo(f"wrote {out_dir}")
        return
    from .export.hub import export_repository, push_repository

    if push is None and (private or create_pr):
        raise InputError("--private and --create-pr go with --push ORG/NAME")
    if private and create_pr:
        raise InputError("--private is for a new repository, --create-pr for one that exists; give one of them")
    export_repository(checkpoint, out_dir, dtype=dtype)
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
    size: Annotated[int, typer.Option(min=2, max=256, help="Nodes along each side of the LUT.")] = 33,
    model: ModelOption = None,
    max_megapixels: MaxMegapixelsOption = DEFAULT_MAX_MEGAPIXELS,
) -> None:
    """Write the foreground's mean colour transform as a .cube LUT for Photoshop, DaVinci or ffmpeg."""
    from .export.color_cube import export_cube
    from .harmonize.harmonizer import Harmonizer

    if output is None or output.suffix.lower() != ".cube":
        raise InputError("--output is missing or no .cube file; say where to write with -o look.cube")
    harmonizer = Harmonizer.from_pretrained(model)
    loss = export_cube(composite, mask, output, harmonizer, size=size, max_megapixels=max_megapixels, warn=_warn)
    share = f", {loss.distance / loss.change:.1%} of the change" if loss.change else ""
    figures = f"fMSE {loss.distance:.1f}{share} ({loss.change:.1f})"
    typer.echo(f"wrote {output}: on this photo it differs from the full result by {figures}")


@app.command()
def info(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the device, which takes seconds to find.")] = False,
) -> None:
    """Print versions, device and bundled checkpoints."""
    import platform
    from importlib import metadata

    from . import __version__
    from .pretrained import bundled_checkpoints

    typer.echo(f"aict_hf {__version__}, Python {platform.python_version()}")
    packages = ("torch", "transformers", "huggingface-hub", "accelerate", "safetensors", "pillow")
    for package in (*packages, "numba", "onnxruntime", "pyvips"):
        try:
            typer.echo(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            typer.echo(f"{package} not installed")
    if not quick:
        import torch

        from .harmonize.runtime import usable_device

        cuda = torch.cuda.is_available()
        name = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
        typer.echo(f"device {usable_device()} ({name})")
    for checkpoint, folder in bundled_checkpoints().items():
        size = (folder / "model.safetensors").stat().st_size / 2**20
        typer.echo(f"checkpoint {checkpoint}: {size:.1f} MiB in {folder}")


def main() -> None:
    """Run the command. Bad input ends in one line on stderr and exit code 1, without a traceback."""
    wrapt.register_post_import_hook(_silence, "transformers")
    wrapt.register_post_import_hook(_silence, "huggingface_hub")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the exception clears temporary files away
    try:
        app()
    except InputError as error:
        _say_failures([error])
        sys.exit(1)
    finally:
        if _WithoutLinearAlgebra in sys.meta_path:
            sys.meta_path.remove(_WithoutLinearAlgebra)


def _silence(library: ModuleType) -> None:
    """Keep transformers or huggingface_hub quiet as soon as one of them is imported: `main` prints errors once."""
    logging = import_module(f"{library.__name__}.utils.logging")
    logging.set_verbosity(CRITICAL)
    if library.__name__ == "transformers":
        logging.disable_progress_bar()  # "Loading weights" is over in a moment


def _harmonize_clip(
    clip: Path,
    masks: Path,
    output: Path,
    options: VideoOptions,
    *,
    model: str | None,
    device: str | None,
    own_fps: bool,
    verbose: bool,
) -> None:
    from .harmonize.video_files import check_clip, harmonize_frames, harmonize_video

    if STREAM in (masks, output):
        raise InputError("- goes with one photo; give files for a clip")
    if clip.is_dir() and options.crf is not None:
        raise InputError("--crf goes with a video file")
    if not clip.is_dir():
        if own_fps:
            raise InputError(f"--fps goes with a folder of frames; {clip} states its own times")
        check_clip(clip, masks, output, options)
    run = harmonize_frames if clip.is_dir() else harmonize_video
    try:
        harmonizer = _harmonizer(model, device, verbose)
        done = run(clip, masks, output, harmonizer, options, warn=_warn, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        _say("interrupted; nothing was written")
        raise typer.Exit(130) from None
    cuts = f", {done.cuts} scene {'cut' if done.cuts == 1 else 'cuts'}" if done.cuts else ""
    _say(f"{done.frames} frames in {output}{cuts}")


def _harmonize_photos(
    composite: Path,
    mask: Path | None,
    masks: Path | None,
    output: Path,
    run: Callable[[list["Job"]], "Report"],
    *,
    report: Path | None = None,
) -> None:
    """Check the files of one composite or of a folder, let `run` harmonize them, and print the outcome."""
    from .harmonize.files import check_output, check_output_folder, write_report

    if report is not None:
        _check_table(report)
    if composite.is_dir():
        check_output_folder(output, [composite, *([masks] if masks is not None else [])])
    jobs, unpaired = _find_jobs(composite, mask, masks, output)
    if composite.is_dir():
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: cannot be made a folder ({error.strerror})") from error
    else:
        check_output(jobs[0])
    try:
        done = run(jobs)
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to resume")
        raise typer.Exit(130) from None
    done.add_unpaired(unpaired)
    _say_failures(done.failures)
    if composite.is_dir():
        _say(f"{done.written} written, {done.skipped} skipped as finished, {len(done.failures)} failed")
    if report is not None:
        write_report(report, done.files)
        if done.skipped:
            _say(f"{report}: lists the {len(done.files)} files of this run, not the {done.skipped} skipped ones")
    if done.failures:
        raise typer.Exit(1)


def _find_jobs(
    composite: Path, mask: Path | None, masks: Path | None, output: Path | None
) -> tuple[list["Job"], list[UnpairedError]]:
    """The job of one composite, or the jobs of a folder and an error for each composite without one."""
    from .harmonize.files import Job, find_jobs

    if composite.is_dir():
        if mask is not None:
            raise InputError(f"{composite}: is a folder; give the folder of its masks with --masks")
        jobs, unpaired = find_jobs(composite, masks, output, warn=_warn)
        return jobs, unpaired
    if masks is not None:
        raise InputError("--masks goes with a folder of composites; give the one mask as the second argument")
    if not composite.exists():
        raise InputError(f"{composite}: no such file; check the path")
    return [Job(composite, mask, output)], []


@contextmanager
def _files_for_streams(composite: Path, mask: Path | None, output: Path) -> Iterator[tuple[Path, Path | None, Path]]:
    """Yield files in place of standard input and output, which are read before and written after the block.

    Standard output gets the format of the composite, or PNG if that format is not written.

    Raises:
        InputError: if two files are to be read from standard input, or standard output is a terminal.
    """
    from .files.images import OUTPUT_FORMATS, input_suffix

    if composite == STREAM and mask == STREAM:
        raise InputError("standard input holds one file; give the composite or the mask as a file")
    if output == STREAM and sys.stdout.isatty():
        raise InputError("standard output is a terminal; write to a file, or send it to another program with |")
    with tempfile.TemporaryDirectory(prefix=STREAM_FOLDER) as name:
        folder = Path(name)
        received = folder / "standard input"
        if STREAM in (composite, mask):
            received.write_bytes(sys.stdin.buffer.read())
            received = received.rename(received.with_suffix(input_suffix(received)))
        composite, mask = received if composite == STREAM else composite, received if mask == STREAM else mask
        suffix = composite.suffix if composite.suffix.lower() in OUTPUT_FORMATS else ".png"
        sent = folder / f"standard output{suffix}" if output == STREAM else output
        yield composite, mask, sent
        if output == STREAM:
            try:
                sys.stdout.buffer.write(sent.read_bytes())
                sys.stdout.buffer.flush()
            except OSError as error:
                raise InputError(f"standard output: cannot be written ({error.strerror})") from error


class _WithoutLinearAlgebra:
    """Hides scipy.linalg from numba, which imports it for 0.2 s if it finds it, and has no use for it in our kernel.

    Where torch does the work, transformers needs it.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "scipy.linalg" and "torch" not in sys.modules:
            raise ModuleNotFoundError(f"{name} is not needed here", name=name)


def _harmonizer(model: str | None, device: str | None, verbose: bool) -> "IdentifiedPredictor":
    from .harmonize.runtime import open_harmonizer

    return open_harmonizer(model, device=device, say=_say if verbose else lambda message: None)


def _check_table(path: Path) -> None:
    """Check the name of a table before the work starts."""
    if path.suffix.lower() != ".csv":
        raise InputError(f"{path}: is not the name of a CSV file; expected one that ends in .csv")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written; expected a file name in a folder that exists")


def _worker_device(name: str | None, gpus_per_worker: float) -> str:
    """The device of Ray's workers, whose machines may have GPUs that this one lacks."""
    return name or ("cuda" if gpus_per_worker else "cpu")


Number = TypeVar("Number", int, float)


def _numbers(text: str, option: str, kind: type[Number]) -> tuple[Number, Number]:
    try:
        first, second = (kind(part) for part in text.split(","))
    except ValueError as error:
        numbers = "two whole numbers" if kind is int else "two numbers"
        raise InputError(f"{option} is {text!r}; expected {numbers} with a comma between them") from error
    return first, second


def _warn(message: str) -> None:
    _say(f"warning: {message}")


def _say_failures(failures: list[InputError]) -> None:
    """Print errors, with advice in terms of the command's options."""
    for failure in failures:
        advice = "; raise --max-megapixels if you trust the file" if isinstance(failure, TooLargeError) else ""
        _say(f"error: {failure.problem if isinstance(failure, TooLargeError) else failure}{advice}")


def _say(message: str) -> None:
    """Print a line, with files that stand for standard input and output under these names alone."""
    message = re.sub(rf"{re.escape(tempfile.gettempdir())}[/\\\\]{STREAM_FOLDER}\w+[/\\\\]", "", message)
    typer.echo(f"aict: {message}", err=True)
