"""The Batch tab: composites and masks in, a zip of harmonized photos and a report out."""

import filecmp
import os
import shutil
import time
import zipfile
from pathlib import Path, PurePath
from typing import Any

import gradio as gr
from harmonizer import open_uploads, predict, recolored
from uploads import (
    FORMATS,
    MAX_BATCH,
    MAX_FILE_MB,
    MAX_UNPACKED_MB,
    MAX_ZIP_ENTRIES,
    in_words,
    new_file,
    unpack,
    uploaded,
    visitors_errors,
    without_folders,
    working_folder,
)

from aict_hf.errors import InputError, NoMasksError
from aict_hf.files.images import not_kept, what_is_lost, write_image
from aict_hf.files.photo_folders import find_photos, is_clutter, name_key
from aict_hf.harmonize.files import Job, find_jobs

EXAMPLES = Path(__file__).parent / "examples"
HEADERS = ["File", "Result", "Pixels", "Seconds", "Notes"]
# Folders inside zips that say what their images are, among them iHarmony4's.
SIDES = {"composites": ("composite", "composites", "composite_images"), "masks": ("mask", "masks")}


def build() -> None:
    """Lay out the tab and connect it."""
    gr.Markdown(
        f"Up to {MAX_BATCH} composites at once, as files or zips. The mask of cat.jpg is cat.png or cat_mask.png. "
        "Masks called cat_mask.png can also come with the composites, and a zip can have folders called composites "
        "and masks. A composite without a mask needs transparency, which is then its mask. A zip can have up to "
        f"{MAX_FILE_MB} MB. All zips together can unpack to {MAX_UNPACKED_MB} MB."
    )
    several: dict[str, Any] = {"file_count": "multiple", "type": "filepath", "height": 180}
    with gr.Row():
        composites = gr.File(label="Composites, or a zip", elem_id="batch-composites", **several)
        masks = gr.File(label="Masks, or a zip", elem_id="batch-masks", **several)
    strength = gr.Slider(0, 100, 100, step=1, label="Strength (%)")
    button = gr.Button("Harmonize all", variant="primary", elem_id="batch-run")
    told = gr.Textbox(label="Summary", lines=1, max_lines=8, interactive=False, elem_id="batch-told")
    archive = gr.File(label="Harmonized photos (zip)", interactive=False, elem_id="batch-result")
    report = gr.Dataframe(
        headers=HEADERS,
        column_widths=["22%", "30%", "12%", "10%", "26%"],
        label="Report",
        interactive=False,
        wrap=True,
        elem_id="batch-report",
    )
    results = [archive, report, told]
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
    composites: list[str] | None,
    masks: list[str] | None,
    strength: float = 100,
    progress: gr.Progress = gr.Progress(),  # noqa: B008  Gradio's way
) -> tuple[str | None, list[list[Any]], str]:
    """Harmonize all composites that have a mask: the zip, the report and what is to be said of all.

    Failures are in the report and do not stop the others.
    """
    if not composites and not masks:
        raise ValueError("There are no composites yet: upload some, or start from the example.")
    with working_folder() as name:
        folder = Path(name)
        notes = gather(composites or [], masks or [], folder)
        found, rows = pair(folder, notes)
        if len(found) > MAX_BATCH:
            raise InputError(f"These are {len(found)} composites; at most {MAX_BATCH} are taken at once.")
        total = len(found) + len(rows)
        for job in progress.tqdm(found, desc="Harmonizing", unit="photo"):
            assert job.output is not None
            started = time.perf_counter()
            shown_name = job.composite.relative_to(folder / "composites").as_posix()
            try:
                opened = open_uploads(job.composite, job.mask)
                job.output.parent.mkdir(parents=True, exist_ok=True)
                result = recolored(opened.file, predict(opened.photo), strength / 100)
                write_image(job.output, result)
            except ValueError as error:
                message = in_words(error).removeprefix("The composite ").removeprefix(f"{job.composite.name}: ")
                if message.startswith("no mask was given"):
                    message += f"; its mask would be called {job.composite.stem}_mask.png"
                rows.append([shown_name, message, "", None, ""])
                continue
            said = "; ".join([*opened.notes, *not_kept(what_is_lost(job.output, result))])
            size = f"{opened.file.size[0]} x {opened.file.size[1]}"
            written_name = job.output.relative_to(folder / "out").as_posix()
            seconds = round(time.perf_counter() - started, 2)
            rows.append([shown_name, written_name, size, seconds, without_folders(said)])
        written = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
        told = "\n".join([f"{len(written)} of {total} composites harmonized.", *map(without_folders, notes)])
        if not written:
            return None, rows, told
        path = new_file("harmonized.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # photos are compressed already
            for file in written:
                archive.write(file, file.relative_to(folder / "out"))
    return str(path), rows, told


def gather(composites: list[str], masks: list[str], folder: Path) -> list[str]:
    """Put uploads and the contents of zips into `folder / "composites"` and `folder / "masks"`.

    Images in a zip's own folders "composites" and "masks" go to the folders of these names. Other folders of zips are
    kept, but for those that all images have in common. If composites and masks share no folder, those that all images
    of one side have in common are dropped. Folders do not count if only one side has any, and its names are unique
    without them.

    Returns:
        what was left out, one line for each zip and one for single files.
    Raises:
        InputError: if a zip is refused, all zips together are too large, there are no images, or two files have the
            same name.
    """
    notes = []
    given = [(uploaded(file, "composite"), "composites") for file in composites]
    others = [(uploaded(file, "mask"), "masks") for file in masks]
    same = all(any(filecmp.cmp(mask, composite, shallow=False) for composite, _ in given) for mask, _ in others)
    if given and others and same:
        notes.append("The masks are the same files as the composites; masks are looked for among these.")
        others = []
    bytes_left, entries_left = MAX_UNPACKED_MB * 2**20, MAX_ZIP_ENTRIES
    arrived = []
    for number, (path, side) in enumerate([*given, *others]):
        if path.suffix.lower() != ".zip" or is_clutter(path.name):
            _lay(path, folder / "files" / side / path.name)
            continue
        if path.stat().st_size > MAX_FILE_MB * 2**20:
            raise InputError(f"{path.name}: is larger than {MAX_FILE_MB} MB; split it")
        found = unpack(path, folder / f"zip-{number}", max_bytes=bytes_left, max_entries=entries_left)
        bytes_left -= sum(image.stat().st_size for image in found.files)
        entries_left -= len(found.files)
        arrived.append((path.name, side, found))
    for side in SIDES:
        if (folder / "files" / side).is_dir():
            arrived.append(("Uploads", side, find_photos(folder / "files" / side, formats=FORMATS)))
    sides: dict[str, list[tuple[PurePath, Path]]] = {side: [] for side in SIDES}
    for name, given_side, found in arrived:
        if found.left_out:
            notes.append(f"{name}: left out {found.left_out}.")
        placed = [(*side_and_place(found.relative(path)), path) for path in found.files]
        has_both = {marked for marked, _, _ in placed} >= {*SIDES}
        elsewhere = 0
        for marked, place, path in placed:
            if marked is None and has_both:
                elsewhere += 1
            else:
                sides[marked or given_side].append((place, path))
        if elsewhere:
            notes.append(f"{name}: left out {elsewhere} outside of its folders of composites and masks.")
    if not sides["composites"]:
        held = "There are masks, but no composites." if sides["masks"] else "There are no images among the uploads."
        raise InputError(" ".join([held, *notes]))
    places = {side: [place for place, _ in images] for side, images in sides.items()}
    folders = [{name_key(str(place.parent)) for place in within} for within in places.values()]
    everywhere = [place for within in places.values() for place in within]
    for side, within in places.items():
        common = _common_folder(everywhere if folders[0] & folders[1] else within)
        places[side] = [place.relative_to(common) for place in within]
    for this, other in (("composites", "masks"), ("masks", "composites")):
        stems = [name_key(place.stem) for place in places[this]]
        if places[other] and all(len(place.parts) == 1 for place in places[other]) and len({*stems}) == len(stems):
            places[this] = [PurePath(place.name) for place in places[this]]
    for side, images in sides.items():
        for place, (_, path) in zip(places[side], images, strict=True):
            _lay(path, folder / side / place)
    return notes


def pair(folder: Path, notes: list[str]) -> tuple[list[Job], list[list[Any]]]:
    """The jobs, and a row for each composite that has no mask or the output of another composite.

    Lines on masks that belong to no composite are added to `notes`.

    Raises:
        InputError: if there are neither masks nor composites with transparency.
    """
    masks = folder / "masks" if (folder / "masks").is_dir() else None
    try:
        jobs, failures = find_jobs(
            folder / "composites",
            masks,
            folder / "out",
            warn=lambda note: notes.append(f"{note}."),
            formats=FORMATS,
        )
    except NoMasksError as error:
        advice = (
            "The composites have neither masks nor transparency: upload their masks too. The mask of cat.jpg is called "
            "cat.png, or cat_mask.png if it comes with the composites."
        )
        raise InputError(" ".join([advice, *notes])) from error
    rows: list[list[Any]] = []
    for failure in failures:
        name = failure.path.relative_to(folder / "composites").as_posix()
        rows.append([name, without_folders(failure.reason), "", None, ""])
    kept: dict[str, Job] = {}
    for job in jobs:
        assert job.output is not None
        name = job.composite.relative_to(folder / "composites").as_posix()
        # On Windows and macOS, one of two names that differ in case would replace the other.
        first = kept.setdefault(name_key(job.output.relative_to(folder / "out").as_posix()), job)
        if first is not job:
            reason = f"would be written as {first.composite.name}, because some systems ignore case; rename one"
            rows.append([name, reason, "", None, ""])
    return list(kept.values()), rows


def side_and_place(relative: PurePath) -> tuple[str | None, PurePath]:
    """Whether a folder of a path says that it holds composites or masks, and the path without that folder."""
    for number, part in enumerate(relative.parts[:-1]):
        for side, names in SIDES.items():
            if name_key(part) in names:
                return side, PurePath(*relative.parts[:number], *relative.parts[number + 1 :])
    return None, relative


def _common_folder(places: list[PurePath]) -> str:
    return os.path.commonpath([place.parent for place in places]) if places else ""


def _lay(source: Path, target: Path) -> None:
    """Put a file in place; a file that comes twice is put there once.

    Raises:
        InputError: if there is another file of this name.
    """
    if target.exists():
        if filecmp.cmp(source, target, shallow=False):
            return
        raise InputError(f"{target.name}: came twice, with different content; rename one")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)
