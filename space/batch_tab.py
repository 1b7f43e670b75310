"""The Batch tab: composites and masks in, a zip of harmonized photos and a report out."""

import os
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import gradio as gr
from harmonizer import open_with_mask, predict, recolored
from uploads import (
    MAX_BATCH,
    MAX_FILE_MB,
    MAX_UNPACKED_MB,
    MAX_ZIP_ENTRIES,
    in_words,
    new_file,
    read_photo,
    unpack,
    uploaded,
    visitors_errors,
    without_folders,
    working_folder,
)

from aict_hf.errors import InputError
from aict_hf.files.images import IMAGE_SUFFIXES, write_image
from aict_hf.harmonize.files import Job, find_jobs

EXAMPLES = Path(__file__).parent / "examples"
TAKEN = [*IMAGE_SUFFIXES, ".zip"]
HEADERS = ["File", "Result", "Pixels", "Seconds"]


def build() -> None:
    """Lay out the tab and connect it."""
    gr.Markdown(
        f"Up to {MAX_BATCH} composites at once, as files or zips. The mask of cat.jpg is cat.png or cat_mask.png. You "
        "can also upload one zip with the folders composites and masks. Without masks, the photos' transparency is the "
        f"mask. A zip can have up to {MAX_FILE_MB} MB and unpack to {MAX_UNPACKED_MB} MB."
    )
    several: dict[str, Any] = {"file_count": "multiple", "type": "filepath", "height": 180}
    with gr.Row():
        composites = gr.File(label="Composites, or a zip", elem_id="batch-composites", **several)
        masks = gr.File(label="Masks, or a zip", elem_id="batch-masks", **several)
    strength = gr.Slider(0, 100, 100, step=1, label="Strength (%)")
    button = gr.Button("Harmonize all", variant="primary", elem_id="batch-run")
    archive = gr.File(label="Harmonized photos (zip)", interactive=False, elem_id="batch-result")
    report = gr.Dataframe(
        headers=HEADERS,
        column_widths=["30%", "44%", "14%", "12%"],
        label="Report",
        interactive=False,
        wrap=True,
        elem_id="batch-report",
    )
    results = [archive, report]
    names = ("dandelion_on_hills", "drum_in_yard")
    gr.Examples(
        [[[str(EXAMPLES / f"{name}.jpg") for name in names], [str(EXAMPLES / f"{name}_mask.png") for name in names]]],
        inputs=[composites, masks],
        fn=run,
        outputs=results,
        run_on_click=True,
        cache_examples=False,
        label="Example: two composites with their masks",
        api_visibility="private",
    )
    button.click(run, [composites, masks, strength], results, api_visibility="private")


@visitors_errors
def run(
    composites: list[str],
    masks: list[str],
    strength: float = 100,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio's way
) -> tuple[str | None, list[list[Any]]]:
    """Harmonize all composites that have a mask. Failures are in the report and do not stop the others."""
    if not composites:
        raise ValueError("There are no composites yet: upload some, or start from the example.")
    with working_folder() as name:
        folder = Path(name)
        for part in ("composites", "masks"):
            (folder / part).mkdir()
        gather(composites or [], masks or [], folder)
        found, rows = pair(folder)
        if len(found) > MAX_BATCH:
            raise InputError(f"These are {len(found)} composites; at most {MAX_BATCH} are taken at once.")
        (folder / "out").mkdir()
        for job in progress.tqdm(found, desc="Harmonizing", unit="photo"):
            started = time.perf_counter()
            try:
                photo = read_photo(job.composite, "composite")
                given = None if job.mask is None else read_photo(job.mask, "mask").pixels
                assert job.output is not None
                opened, _ = open_with_mask(photo, given, name=job.composite.name)
                write_image(job.output, recolored(photo, predict(opened), strength / 100))
            except ValueError as error:
                message = in_words(error).removeprefix(f"{job.composite.name}: ")
                rows.append([job.composite.name, message, "", None])
                continue
            size = f"{photo.size[0]} x {photo.size[1]}"
            rows.append([job.composite.name, job.output.name, size, round(time.perf_counter() - started, 2)])
        written = sorted((folder / "out").iterdir())
        if not written:
            return None, rows
        path = new_file("harmonized.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # photos are compressed already
            for file in written:
                archive.write(file, file.name)
    return str(path), rows


def gather(composites: list[str], masks: list[str], folder: Path) -> None:
    """Put uploads and the contents of zips into `folder / "composites"` and `folder / "masks"`.

    Images in a zip's own folders "composites" and "masks" go to the folders of these names.

    Raises:
        InputError: if a zip is refused, all zips together are too large, a file is of no accepted kind, or two files
            have the same name.
    """
    bytes_left, entries_left = MAX_UNPACKED_MB * 2**20, MAX_ZIP_ENTRIES
    for number, (file, kind) in enumerate([*((c, "composites") for c in composites), *((m, "masks") for m in masks)]):
        path = uploaded(file, kind)
        if path.suffix.lower() != ".zip":
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                raise InputError(f"{path.name}: is no photo and no zip; expected {', '.join(TAKEN)}")
            _lay(path, folder / kind / path.name)
            continue
        if path.stat().st_size > MAX_FILE_MB * 2**20:
            raise InputError(f"{path.name}: is larger than {MAX_FILE_MB} MB; split it")
        unpacked = unpack(path, folder / f"zip-{number}", max_bytes=bytes_left, max_entries=entries_left)
        bytes_left -= sum(image.stat().st_size for image in unpacked)
        entries_left -= len(unpacked)
        for image in unpacked:
            into = image.parent.name if image.parent.name in ("composites", "masks") else kind
            _lay(image, folder / into / image.name)


def pair(folder: Path) -> tuple[list[Job], list[list[Any]]]:
    """The jobs, and a row for each composite that has no mask or the output of another composite."""
    composites = [path for path in sorted((folder / "composites").iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not composites:
        raise InputError("There are masks, but no composites.")
    if any((folder / "masks").iterdir()):
        jobs, failures = find_jobs(folder / "composites", folder / "masks", folder / "out")
        return jobs, [[failure.path.name, without_folders(failure.reason), "", None] for failure in failures]
    alone: dict[str, Job] = {}
    rows: list[list[Any]] = []
    for path in composites:
        name = f"{path.stem}.png"  # which holds the transparency
        if name in alone:
            rows.append(
                [path.name, f"would be written to {name}, as {alone[name].composite.name}; rename one", "", None]
            )
            continue
        alone[name] = Job(path, None, folder / "out" / name)
    return list(alone.values()), rows


def _lay(source: Path, target: Path) -> None:
    if target.exists():
        raise InputError(f"{target.name}: came twice; rename one")
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
