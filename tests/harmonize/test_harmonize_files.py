import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf.errors import InputError, TooLargeError
from aict_hf.harmonize.files import Job, check_output, find_jobs, harmonize_files, write_report
from aict_hf.harmonize.harmonizer import Harmonizer
from aict_hf.harmonize.options import HarmonizeOptions
from aict_hf.model import opened_photo
from aict_hf.model.image_arrays import photo_arrays
from aict_hf.model.opened_photo import OpenedPhoto


@pytest.fixture
def folders(tmp_path):
    """Three composites of different sizes with masks found in different ways."""
    composites, masks, out = (tmp_path / name for name in ("composites", "masks", "out"))
    for folder in (composites, masks, out):
        folder.mkdir()
    for seed, (composite, mask, size) in enumerate(
        [("a.png", "a.png", (40, 56)), ("b0001_1_4.jpg", "b0001_1.png", (30, 30)), ("c.bmp", "c.jpg", (21, 64))]
    ):
        photo, foreground = make_photo(*size, seed=seed)
        Image.fromarray(photo).save(composites / composite)
        Image.fromarray(foreground).save(masks / mask)
    return composites, masks, out


def test_masks_are_found_by_stem_and_by_iharmony4s_rule(folders):
    composites, masks, out = folders
    jobs, failures = find_jobs(*folders)
    assert failures == []
    assert jobs == [
        Job(composites / "a.png", masks / "a.png", out / "a.png"),
        Job(composites / "b0001_1_4.jpg", masks / "b0001_1.png", out / "b0001_1_4.jpg"),
        Job(composites / "c.bmp", masks / "c.jpg", out / "c.png"),
    ]


def test_masks_may_be_called_masks(folders):
    composites, masks, _ = folders
    (masks / "a.png").rename(masks / "a_mask.png")
    Image.new("RGB", (8, 8)).save(composites / "a_mask.png")  # its own name goes first
    jobs, failures = find_jobs(*folders)
    assert failures == []
    assert [job.mask.name for job in jobs if job.composite.stem.startswith("a")] == ["a_mask.png"] * 2


def test_composites_without_one_mask_or_with_a_shared_output_are_reported(folders):
    composites, masks, _ = folders
    (masks / "a.jpg").write_bytes(b"")
    (composites / "lonely.png").write_bytes(b"")
    (composites / "c.png").write_bytes(b"")
    jobs, failures = find_jobs(*folders)
    assert [job.composite.name for job in jobs] == ["b0001_1_4.jpg", "c.bmp"]
    assert [failure.path.name for failure in failures] == ["a.png", "c.png", "lonely.png"]
    assert "2 masks (a.jpg, a.png)" in str(failures[0])
    assert "would be written to" in str(failures[1])
    assert "no mask" in str(failures[2])


def test_empty_and_missing_folders_are_named(tmp_path, folders):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no images"):
        find_jobs(tmp_path / "empty", folders[1], folders[2])
    with pytest.raises(InputError, match="nowhere: is not a folder"):
        find_jobs(folders[0], tmp_path / "nowhere", folders[2])


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_every_file_is_written_whatever_the_batches(folders, harmonizer, batch_size):
    jobs, _ = find_jobs(*folders)
    report = harmonize_files(jobs, harmonizer, HarmonizeOptions(batch_size=batch_size))
    assert (report.written, report.skipped, report.failures) == (3, 0, [])
    for job in jobs:
        with Image.open(job.composite) as before, Image.open(job.output) as after:
            assert before.size == after.size
            assert not np.array_equal(np.asarray(before), np.asarray(after))
    photo, mask = make_photo(40, 56, seed=0)
    result = np.asarray(Image.open(folders[2] / "a.png"))
    assert np.array_equal(result[mask == 0], photo[mask == 0])


def test_each_file_is_decoded_to_tensors_once(folders, harmonizer, monkeypatch):
    decoded = []
    monkeypatch.setattr(
        opened_photo,
        "photo_arrays",
        lambda *given: decoded.append(given) or photo_arrays(*given),
    )
    harmonize_files(find_jobs(*folders)[0], harmonizer, HarmonizeOptions(measure=True))
    assert len(decoded) == 3


def test_failures_keep_their_fields(folders, harmonizer):
    report = harmonize_files(find_jobs(*folders)[0], harmonizer, HarmonizeOptions(max_megapixels=0.002))
    assert report.written == 2
    [failure] = report.failures
    assert isinstance(failure, TooLargeError)
    assert (failure.path, failure.size, failure.limit) == (folders[0] / "a.png", (56, 40), 0.002)


def test_finished_outputs_are_skipped(folders, harmonizer):
    jobs, _ = find_jobs(*folders)
    jobs[1].output.write_bytes(b"finished")
    report = harmonize_files(jobs, harmonizer, HarmonizeOptions(skip_existing=True))
    assert (report.written, report.skipped) == (2, 1)
    assert jobs[1].output.read_bytes() == b"finished"


def test_bad_files_do_not_stop_the_others(folders, harmonizer):
    jobs, _ = find_jobs(*folders)
    jobs[0].composite.write_bytes(b"no image")
    Image.new("L", (3, 3)).save(jobs[1].mask)
    report = harmonize_files(jobs, harmonizer)
    assert report.written == 1
    assert "a.png: is not an image" in str(report.failures[0])
    assert "b0001_1.png: mask is 3 x 3, composite is 30 x 30" in str(report.failures[1])
    assert [path.name for path in folders[2].iterdir()] == ["c.png"]


def test_only_numbers_are_stripped_from_names(folders):
    composites, masks, _ = folders
    for name in ("holiday_anna", "holiday_7"):
        (composites / f"{name}.png").touch()
    (masks / "holiday.png").touch()
    jobs, failures = find_jobs(*folders)
    assert "holiday_7.png" in [job.composite.name for job in jobs]
    assert "holiday_anna.png: has no mask" in str(failures[0])


def test_masks_of_few_levels_do_not_stop_a_run(folders, harmonizer):
    jobs, _ = find_jobs(*folders)
    nearly_white = np.full((40, 56), 255, np.uint8)
    nearly_white[3, 3] = 254
    Image.fromarray(nearly_white).save(jobs[0].mask)
    report = harmonize_files(jobs, harmonizer, HarmonizeOptions(invert_mask=True))
    assert (report.written, report.failures) == (3, [])
    photo, _ = make_photo(40, 56)
    faint = np.dstack([photo, np.eye(40, 56, dtype=np.uint8)])
    Image.fromarray(faint).save(jobs[0].composite)
    assert harmonize_files([Job(jobs[0].composite, None, jobs[0].output)], harmonizer).written == 1


def test_a_failure_in_the_network_costs_its_own_photo_alone(folders, harmonizer, monkeypatch):
    jobs, _ = find_jobs(*folders)
    recolored = OpenedPhoto.recolored

    def fails_for_wide(self, *maps, **options):
        if self.original.width > 60:
            raise MemoryError("too wide")
        return recolored(self, *maps, **options)

    monkeypatch.setattr(OpenedPhoto, "recolored", fails_for_wide)
    report = harmonize_files(jobs, harmonizer)
    assert report.written == 2
    assert len(report.failures) == 1
    assert str(report.failures[0]).endswith("c.bmp: too wide")


def test_a_batch_too_large_for_the_memory_is_done_one_by_one(folders, harmonizer, monkeypatch):
    predict = Harmonizer.predict_opened

    def fails_for_several(self, photos):
        if len(photos) > 1:
            raise MemoryError("too many")
        return predict(self, photos)

    monkeypatch.setattr(Harmonizer, "predict_opened", fails_for_several)
    report = harmonize_files(find_jobs(*folders)[0], harmonizer)
    assert (report.written, report.failures) == (3, [])


def test_the_network_sees_batches(folders, harmonizer, model):
    sizes = []
    model.register_forward_pre_hook(lambda module, args, kwargs: sizes.append(len(kwargs["mask"])), with_kwargs=True)
    harmonize_files(find_jobs(*folders)[0], harmonizer, HarmonizeOptions(batch_size=2))
    assert sizes == [2, 1]


def test_metadata_travels_to_the_output(folders, harmonizer):
    job = find_jobs(*folders)[0][1]
    exif = Image.Exif()
    exif[0x013B] = "A. Photographer"
    with Image.open(job.composite) as photo:
        photo.save(job.composite, exif=exif, icc_profile=b"a profile")
    harmonize_files([job], harmonizer)
    with Image.open(job.output) as result:
        assert result.getexif()[0x013B] == "A. Photographer"
        assert result.info["icc_profile"] == b"a profile"


def test_an_inverted_mask_keeps_the_foreground(folders, harmonizer):
    job = find_jobs(*folders)[0][0]
    harmonize_files([job], harmonizer, HarmonizeOptions(invert_mask=True))
    photo, mask = make_photo(40, 56, seed=0)
    result = np.asarray(Image.open(job.output))
    assert np.array_equal(result[mask == 255], photo[mask == 255])
    assert not np.array_equal(result[mask == 0], photo[mask == 0])


def test_a_mask_without_foreground_is_a_no_op_with_a_warning(folders, harmonizer):
    job = find_jobs(*folders)[0][0]
    Image.new("L", (56, 40)).save(job.mask)
    warnings = []
    report = harmonize_files([job], harmonizer, warn=warnings.append)
    assert report.written == 1
    assert warnings == [f"{job.mask}: the mask has no foreground; the image is written unchanged"]
    assert np.array_equal(np.asarray(Image.open(job.output)), np.asarray(Image.open(job.composite)))


def test_sixteen_bit_files_stay_so(folders, harmonizer, tmp_path):
    from aict_hf.files.images import ImageFile, read_image, write_image

    photo, mask = make_photo()
    values = photo.astype(np.uint16) * 257 + 77
    write_image(tmp_path / "deep.tif", ImageFile(values))
    write_image(tmp_path / "mask.png", ImageFile(mask.astype(np.uint16) * 257))
    harmonize_files([Job(tmp_path / "deep.tif", tmp_path / "mask.png", tmp_path / "out.png")], harmonizer)
    result = read_image(tmp_path / "out.png").pixels
    assert result.dtype == np.uint16
    assert np.array_equal(result[mask == 0], values[mask == 0])
    assert len(np.unique(result[mask > 0])) > 256


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("a.xyz", "cannot write .xyz"),
        ("nowhere/a.png", "nowhere: no such folder"),
        ("folder.png", "folder.png: is a folder"),
        ("photo.png", "is one of the inputs"),
        ("mask.png", "is one of the inputs"),
        ("../{name}/photo.png", "is one of the inputs"),
    ],
)
def test_outputs_that_cannot_be_are_refused(tmp_path, output, words):
    for name in ("photo.png", "mask.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=words):
        check_output(
            Job(tmp_path / "photo.png", tmp_path / "mask.png", tmp_path / Path(output.format(name=tmp_path.name)))
        )


def test_the_report_says_what_each_file_was(folders, harmonizer, model, processor, tmp_path):
    jobs, _ = find_jobs(*folders)
    jobs[1].composite.write_bytes(b"no image")
    report = harmonize_files(jobs, harmonizer, HarmonizeOptions(measure=True))
    write_report(tmp_path / "report.csv", report.files)
    with (tmp_path / "report.csv").open(newline="") as file:
        rows = {Path(row["composite"]).name: row for row in csv.DictReader(file)}
    assert set(rows) == {"a.png", "b0001_1_4.jpg", "c.bmp"}
    assert "b0001_1_4.jpg: is not an image" in rows["b0001_1_4.jpg"]["error"]
    assert rows["b0001_1_4.jpg"]["disharmony"] == ""
    row = rows["a.png"]
    assert (row["width"], row["height"], row["error"]) == ("56", "40", "")
    assert (Path(row["mask"]), Path(row["output"])) == (jobs[0].mask, jobs[0].output)
    mask = np.asarray(Image.open(jobs[0].mask)) / 255
    assert float(row["mask_area"]) == pytest.approx(mask.mean(), abs=1e-3)
    assert float(row["seconds"]) > 0
    photo = np.asarray(Image.open(jobs[0].composite))
    outputs = model(**processor(photo, mask, return_tensors="pt"))
    assert float(row["disharmony"]) == pytest.approx(processor.disharmony(outputs, photo, mask)[0], abs=1e-3)


def test_measuring_alone_writes_nothing(folders, harmonizer):
    jobs, failures = find_jobs(*folders[:2], None)
    assert [job.output for job in jobs] == [None] * 3
    assert failures == []
    report = harmonize_files(jobs, harmonizer, HarmonizeOptions(measure=True, skip_existing=True))
    assert (report.written, report.skipped, report.failures) == (3, 0, [])
    assert all(file.disharmony > 0 and file.output == "" for file in report.files)
    assert list(folders[2].iterdir()) == []


def test_what_results_lack_is_said_once(folders, harmonizer):
    jobs, _ = find_jobs(*folders)
    for job in jobs:
        with Image.open(job.composite) as photo:
            photo.save(job.composite.with_suffix(".jpg"), xmp=b'<a xmlns:hdrgm="http" hdrgm:Version="1.0"/>')
    jobs = [Job(job.composite.with_suffix(".jpg"), job.mask, job.output) for job in jobs]
    warnings = []
    assert harmonize_files(jobs, harmonizer, warn=warnings.append).written == 3
    assert warnings == [f"{jobs[0].composite} and 2 more: not kept in the result: the gain map (HDR)"]


def test_masks_in_one_colour_are_as_white_ones_and_said_once(folders, harmonizer):
    jobs, _ = find_jobs(*folders)
    assert harmonize_files(jobs, harmonizer).written == 3
    white = [np.asarray(Image.open(job.output)).astype(int) for job in jobs]
    for job in jobs:
        mask = np.asarray(Image.open(job.mask))
        Image.fromarray((mask[..., None] / 255 * [255, 0, 0]).astype(np.uint8)).save(job.mask)
    said = []
    assert harmonize_files(jobs, harmonizer, warn=said.append).written == 3
    for job, expected in zip(jobs[:2], white, strict=False):  # the third mask is a JPEG, whose colours change at edges
        assert np.abs(np.asarray(Image.open(job.output)) - expected).max() <= 1
    assert said == [
        f"{jobs[0].mask} and 2 more: the mask is in one colour on black; the foreground is where that colour is"
    ]


def test_masks_that_mean_something_else_are_said_or_refused(tmp_path, harmonizer):
    photo, mask = make_photo()
    exif = Image.Exif()
    exif[0x0112] = 3
    for name, given in (("plain", {}), ("turned", {"exif": exif})):
        Image.fromarray(photo).save(tmp_path / f"{name}.png", **given)
    masks = {"half": mask // 2, "numbers": (mask > 0).astype(np.uint8) * 3, "all": mask * 0 + 255, "good": mask}
    for name, values in masks.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    pairs = [("plain", "half"), ("plain", "numbers"), ("plain", "all"), ("plain", "good"), ("turned", "good")]
    said = []
    report = harmonize_files(
        [Job(tmp_path / f"{c}.png", tmp_path / f"{m}.png", tmp_path / f"{c}_{m}_out.png") for c, m in pairs],
        harmonizer,
        warn=said.append,
    )
    assert report.written == 4
    assert "numbers.png: the mask's highest level is 3" in str(report.failures[0])
    assert not (tmp_path / "plain_numbers_out.png").exists()
    assert len(said) == 3
    assert "half.png: the mask's highest level is 127 of 255" in said[0]
    assert "all.png: the mask covers the whole picture" in said[1]
    assert "good.png: the mask is assumed to match the upright photo; " in said[2]
    assert said[2].endswith("turned.png is turned upright by its EXIF orientation 3")
