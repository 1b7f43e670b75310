"""The `aict` command."""

import json
import signal
import sys
from enum import Enum
from logging import CRITICAL
from pathlib import Path
from typing import Annotated

import typer

from .errors import InputError, one_line
from .image_files import DEFAULT_MAX_MEGAPIXELS

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


@app.command()
def harmonize(
    composite: Annotated[Path, typer.Argument(help="The photo with the pasted foreground, or a folder of them.")],
    mask: Annotated[
        Path | None,
        typer.Argument(help="Its foreground mask, white on black. Left out, the composite's alpha is the mask."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file (or folder) to write.", show_default=False)
    ] = None,
    masks: Annotated[Path | None, typer.Option(help="The folder of masks, with a folder of composites.")] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="Share of the change to apply.")] = 1.0,
    invert_mask: Annotated[
        bool, typer.Option("--invert-mask", help="Fit the background to the foreground instead.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="A bundled checkpoint's name, a folder or a Hub repository.", show_default="bundled"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps ...", show_default="cuda where there is one")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Composites of a folder that are worked on at once.")] = 4,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write outputs of a folder again that exist already.")
    ] = False,
    max_megapixels: Annotated[float, typer.Option(min=0, help="Refuse larger images.")] = DEFAULT_MAX_MEGAPIXELS,
) -> None:
    """Harmonize one composite, or a folder of them (finished ones are skipped, so it can be resumed)."""
    from .harmonize_files import Job, check_output, find_jobs, harmonize_files
    from .pretrained import load_checkpoint

    if output is None:
        raise InputError("--output is missing; say where to write with -o")
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

    loaded_model, processor = load_checkpoint(model, device=_device(device))
    try:
        report = harmonize_files(
            jobs,
            loaded_model,
            processor,
            strength=strength,
            invert_mask=invert_mask,
            batch_size=batch_size,
            max_megapixels=max_megapixels,
            skip_existing=composite.is_dir() and not overwrite,
            warn=lambda message: _say(f"warning: {message}"),
            progress=sys.stderr.isatty(),
        )
    except KeyboardInterrupt:
        _say("interrupted; run the same command again to go on")
        raise typer.Exit(130) from None
    failures += report.failures
    for failure in failures:
        _say(f"error: {failure}")
    if composite.is_dir():
        _say(f"{report.written} written, {report.skipped} skipped as finished, {len(failures)} failed")
    if failures:
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

    from .configuration_aict import AICTConfig
    from .conversion import convert_checkpoint

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


def _say(message: str) -> None:
    typer.echo(f"aict: {message}", err=True)
