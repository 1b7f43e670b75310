"""Ask people which method's results look best, blind, and report what they say.

    python training/user_study.py serve --composites photos --masks masks \
        --methods ours=out/ours pctnet=out/pctnet harmonizer=out/harmonizer --votes votes.db
    python training/user_study.py report votes.db

`serve` opens a local page. It shows a composite and the results of all methods under letters, in an order drawn for
each volunteer and photo, and asks for a ranking. Votes are saved in the file at once; the same command goes on with it.
`report` prints the paper's score (3, 2 and 1 points for the first three ranks), a Bradley-Terry fit with intervals, and
how many more votes would settle the order of methods next to each other. It can run while the page does.

Needs `pip install "aict_hf[space,training]"`.
"""

import argparse
import secrets
import tempfile
from collections import Counter
from collections.abc import Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from PIL import Image
from study_votes import StudyPhoto, VoteFile, open_votes
from tqdm import tqdm

from aict_hf.errors import InputError, one_line
from aict_hf.files.images import ImageFile, in_profile, read_image, upright_size
from aict_hf.files.photo_folders import FoundPhotos, find_photos, name_key, pair_masks
from aict_hf.model.image_arrays import mask_array, opacity_array, rgb_array
from aict_hf.model.levels import to_eight_bits

DIM = 0.75  # how much "What was pasted?" covers of the background
MAX_METHODS = 10
NAMED = 3  # files that an error names

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
commands = parser.add_subparsers(dest="command", required=True)
serve_parser = commands.add_parser("serve", help="open the page")
serve_parser.add_argument("--composites", type=Path, required=True, metavar="FOLDER", help="the photos of the study")
serve_parser.add_argument(
    "--masks",
    type=Path,
    metavar="FOLDER",
    help="their foreground masks, named as for aict harmonize; by default beside them",
)
serve_parser.add_argument(
    "--methods",
    nargs="+",
    required=True,
    metavar="NAME=FOLDER",
    help="the results of each method, named as the composites, in any format",
)
serve_parser.add_argument(
    "--votes", type=Path, default=Path("votes.db"), metavar="FILE", help="file for the votes (default: %(default)s)"
)
serve_parser.add_argument(
    "--votes_per_volunteer", type=int, metavar="N", help="thank a volunteer after N photos; by default after all"
)
serve_parser.add_argument("--seed", type=int, default=0, help="decides the orders shown (default: %(default)s)")
serve_parser.add_argument(
    "--host",
    default="127.0.0.1",
    help="address to serve on; 0.0.0.0 lets other computers of the network vote (default: %(default)s)",
)
serve_parser.add_argument("--port", type=int, default=7860, help="port to serve on (default: %(default)s)")
report_parser = commands.add_parser("report", help="print what the votes say")
report_parser.add_argument("votes", type=Path, help="file with the votes")


def method_folders(methods: Sequence[str]) -> dict[str, Path]:
    """The folder of each method, from NAME=FOLDER."""
    folders: dict[str, Path] = {}
    for text in methods:
        name, equals, folder = text.partition("=")
        if not equals or not name.strip() or "/" in name or not folder:
            raise InputError(f"--methods {text}: expected NAME=FOLDER with a name without /, such as ours=out/ours")
        if name.strip() in folders:
            raise InputError(f"--methods names {name.strip()} twice; give each method a name of its own")
        folders[name.strip()] = Path(folder)
    if not 2 <= len(folders) <= MAX_METHODS:
        raise InputError(f"--methods names {len(folders)}; a study compares 2 to {MAX_METHODS} methods")
    by_place: dict[Path, str] = {}
    for name, path in folders.items():
        other = by_place.setdefault(path.resolve(), name)
        if other != name:
            raise InputError(f"--methods {other} and {name} are the same folder, {path}; give each method its own")
    return folders


def read_study(composites: Path, masks: Path | None, methods: dict[str, Path]) -> list[StudyPhoto]:
    """Find the mask and the results of each composite, and compare their sizes.

    Raises:
        InputError: naming, for each folder, the images that are missing, are there twice or have another size.
    """
    found = find_photos(composites)
    results = {name: find_photos(folder) for name, folder in methods.items()}
    pairs = pair_masks(found, None if masks is None else find_photos(masks))
    if not pairs:
        raise InputError(f"{composites}: holds no composites; expected images")
    problems = []
    by_key = Counter(_key(found, photo) for photo in pairs)
    alike = [photo for photo in pairs if by_key[_key(found, photo)] > 1]
    if alike:
        raise InputError(f"{composites}: {_names(found, alike)} have one name, so results cannot be told; rename one")
    without = [photo for photo, files in pairs.items() if len(files) != 1]
    if without:
        problems.append(f"{masks or composites}: {_names(found, without)} should have one mask each")
    by_method: dict[str, dict[Path, Path]] = {}
    for method, given in results.items():
        by_name: dict[tuple[str, str], list[Path]] = {}
        for path in given.files:
            by_name.setdefault(_key(given, path), []).append(path)
        named = {photo: by_name.pop(_key(found, photo), []) for photo in pairs}
        missing = [photo for photo, files in named.items() if not files]
        if missing:
            strangers = [path for files in by_name.values() for path in files]
            fitting = f"; {_names(given, strangers)} fit no composite: are they misnamed?" if strangers else ""
            problems.append(f"{given.folder}: lacks the results of {method} for {_names(found, missing)}{fitting}")
        several = [path for files in named.values() if len(files) > 1 for path in files]
        if several:
            problems.append(f"{given.folder}: {_names(given, several)} are several results for one composite; keep one")
        by_method[method] = {photo: files[0] for photo, files in named.items() if files}
    if problems:
        raise InputError("; ".join(problems))
    photos = [
        StudyPhoto(
            found.relative(photo).as_posix(),
            photo,
            pairs[photo][0],
            {method: files[photo] for method, files in by_method.items()},
        )
        for photo in sorted(pairs)
    ]
    for photo in photos:
        size = upright_size(photo.composite)
        for path in (photo.mask, *photo.results.values()):
            other = upright_size(path)
            if size is not None and other is not None and other != size:  # files without a size: decoding says why
                problems.append(f"{path}: is {other[0]} x {other[1]}, its composite is {size[0]} x {size[1]}")
    if problems:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise InputError("; ".join(problems[:NAMED]) + f"{more}; all pictures of a photo must have its size")
    return photos


def page_pictures(photos: Sequence[StudyPhoto], folder: Path) -> dict[tuple[str, str], Path]:
    """Write all pictures as PNG files with random names, so that no name, format or metadata tells a method.

    Returns:
        the file of each photo and method; those of the methods "" and "/mask" are the composite, and the picture that
        dims its background.
    Raises:
        InputError: if a file cannot be read, is not a mask or is not opaque.
    """
    jobs = []
    for photo in photos:
        jobs += [(photo.name, "", photo.composite), (photo.name, "/mask", photo.mask)]
        jobs += [(photo.name, method, path) for method, path in photo.results.items()]
    secrets.SystemRandom().shuffle(jobs)  # so that the times of the files tell nothing either

    def write(job: tuple[str, str, Path]) -> tuple[tuple[str, str], Path]:
        name, method, path = job
        image = read_image(path)
        try:
            if method == "/mask":
                mask = to_eight_bits(mask_array(image.pixels)[0])
                cover = (DIM * (255 - mask.astype(np.float32))).round().astype(np.uint8)
                picture = Image.fromarray(np.dstack([np.full_like(cover, 255), cover]))
            else:
                picture = Image.fromarray(opaque_pixels(image))
        except ValueError as error:
            raise error if isinstance(error, InputError) else InputError(f"{path}: {error}") from error
        written = folder / f"{secrets.token_hex(12)}.png"
        picture.save(written, compress_level=1)
        return (name, method), written

    with ThreadPool(4) as pool:
        return dict(tqdm(pool.imap_unordered(write, jobs), "reading pictures", len(jobs), delay=2))


def opaque_pixels(image: ImageFile) -> np.ndarray:
    """The pixels of a photo as browsers show them: sRGB, uint8, shape (H, W, 3)."""
    image.pixels = in_profile(image)
    if opacity_array(image.pixels) is not None:
        raise ValueError("has transparent pixels; composites and results are whole photos")
    return np.ascontiguousarray(to_eight_bits(rgb_array(image.pixels)).transpose(1, 2, 0))


def serve(arguments: argparse.Namespace) -> None:
    """Check everything, then show the page until Ctrl-C."""
    if arguments.votes_per_volunteer is not None and arguments.votes_per_volunteer < 1:
        raise InputError(f"--votes_per_volunteer is {arguments.votes_per_volunteer}; expected 1 or more")
    photos = read_study(arguments.composites, arguments.masks, method_folders(arguments.methods))
    with tempfile.TemporaryDirectory(prefix="study_") as folder:
        pictures = page_pictures(photos, Path(folder))
        votes = open_votes(arguments.votes, photos, seed=arguments.seed)
        try:
            from study_page import build, launch_options  # Gradio is slow to import, and the report needs none
        except ModuleNotFoundError as error:
            raise InputError(f'the page needs {error.name}; pip install "aict_hf[space,training]"') from error

        kinds = {name: _kinds(photos, name) for name in votes.methods}
        if len(set(kinds.values())) > 1:
            listed = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            print(f"note: the results are stored in different formats ({listed}); compression may tell methods apart")
        page = build(votes, pictures, votes_per_volunteer=arguments.votes_per_volunteer)
        print(f"{len(photos)} photos, {len(votes.methods)} methods, {len(votes.votes())} votes so far in {votes.path}")
        try:
            page.launch(server_name=arguments.host, server_port=arguments.port, **launch_options(Path(folder)))
        except OSError as error:
            raise InputError(f"cannot serve on {arguments.host}:{arguments.port} ({one_line(error)})") from error


def report(arguments: argparse.Namespace) -> None:
    file = VoteFile(arguments.votes)
    votes = file.votes()
    if not votes:
        raise InputError(f"{arguments.votes}: holds no votes yet")
    try:
        from study_report import report as report_of  # statsmodels is slow to import, and the page needs none
    except ModuleNotFoundError as error:
        raise InputError(f'the report needs {error.name}; pip install "aict_hf[training]"') from error
    print(report_of(votes, file.photos()))


def _kinds(photos: Sequence[StudyPhoto], method: str) -> str:
    return " and ".join(sorted({photo.results[method].suffix.lower() for photo in photos}))


def _key(found: FoundPhotos, path: Path) -> tuple[str, str]:
    return name_key(found.relative(path).parent.as_posix()), name_key(path.stem)


def _names(found: FoundPhotos, paths: Sequence[Path]) -> str:
    names = [found.relative(path).as_posix() for path in paths]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def main() -> None:
    arguments = parser.parse_args()
    (serve if arguments.command == "serve" else report)(arguments)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        raise SystemExit(f"user_study.py: {error}") from error
