import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import datasets
import numpy as np
import pytest
from conftest import write_coco_dataset, write_cutouts, write_pool
from PIL import Image
from pycocotools.coco import COCO

from aict_hf.augment.files import AugmentRun, augment_files
from aict_hf.augment.formats.coco import read_coco
from aict_hf.augment.formats.hugging_face import read_hf
from aict_hf.augment.formats.yolo import read_yolo
from aict_hf.augment.options import AugmentJob, CopyPasteOptions
from aict_hf.augment.transform import HarmonizedCopyPaste
from aict_hf.errors import InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def job(tmp_path):
    write_coco_dataset(tmp_path / "in", images=5)
    write_cutouts(tmp_path / "cutouts")
    return AugmentJob(
        str(tmp_path / "in" / "annotations.json"),
        str(tmp_path / "out"),
        CopyPasteOptions(seed=1),
        cutouts=(str(tmp_path / "cutouts"),),
        copies=2,
        block_size=2,
    )


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def size_of(path):
    with Image.open(path) as image:
        return image.size


def pasting(job, output=None, **options):
    """The job with other options of pasting."""
    return replace(job, output=str(output or job.output), options=replace(job.options, **options))


def naive(job, **changes):
    return replace(pasting(job, naive=True), **changes)


def test_coco_comes_out_as_pycocotools_wants_it(job, tmp_path):
    report = augment_files(job)
    assert (report.written, report.earlier, report.failures, report.warnings) == (10, 0, [], [])
    written = json.loads((tmp_path / "out" / "annotations.json").read_text())
    source = json.loads((tmp_path / "in" / "annotations.json").read_text())
    assert written["info"] == source["info"]
    assert written["licenses"] == source["licenses"]
    assert written["categories"] == [*source["categories"], {"id": 10, "name": "bird"}]
    assert [image["file_name"] for image in written["images"]] == [f"{n}_aug{c}.jpg" for c in (1, 2) for n in range(5)]
    assert [image["augmented_from"] for image in written["images"]] == [f"{n}.jpg" for n in range(5)] * 2
    assert all(image["license"] == 3 for image in written["images"])
    coco = COCO(tmp_path / "out" / "annotations.json")
    assert len(coco.anns) == len(written["annotations"])
    pasted = [annotation for annotation in coco.anns.values() if "foreground" in annotation]
    assert len(pasted) >= 8
    assert {annotation["category_id"] for annotation in pasted} == {5, 10}
    crowds = [annotation for annotation in coco.anns.values() if annotation["iscrowd"]]
    assert all(annotation["category_id"] == 9 for annotation in crowds)
    assert crowds
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"]
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert annotation["bbox"] == pytest.approx(box, abs=1)
    for number in coco.getImgIds():
        of_image = coco.imgToAnns[number]
        new = [coco.annToMask(a).astype(bool) for a in of_image if "foreground" in a]
        old = [coco.annToMask(a).astype(bool) for a in of_image if "foreground" not in a]
        assert not any((one & other).any() for one in new for other in old)
        assert size_of(tmp_path / "out" / "images" / coco.imgs[number]["file_name"]) == (80, 60)
    assert size_of(tmp_path / "out" / "contact_sheet.png") == (1600, 600)
    assert not list((tmp_path / "out").rglob(".*"))


def test_copies_are_the_transforms_epochs(job, tmp_path):
    run = AugmentRun(naive(job))
    augment_files(naive(job))
    coco = COCO(tmp_path / "out" / "annotations.json")
    for number, image in coco.imgs.items():
        copy, index = divmod(number - 1, 5)
        expected = run.transform(run.dataset.images[index].sample(), epoch=copy + 1)
        masks = [coco.annToMask(annotation) for annotation in coco.imgToAnns[image["id"]]]
        assert np.array_equal(masks, expected["masks"])


TWO_WORKERS = """
import json, pickle, sys
from torch.utils.data import DataLoader
from aict_hf.augment import files as augment_files
from aict_hf.augment.options import AugmentJob, CopyPasteOptions
def forked(dataset, *, multiprocessing_context, **options):
    assert multiprocessing_context == "spawn"  # which would import everything once more in each worker
    return DataLoader(pickle.loads(pickle.dumps(dataset)), multiprocessing_context="fork", **options)
augment_files.DataLoader = forked
fields = json.loads(sys.argv[1])
options = CopyPasteOptions(**fields.pop("options"))
augment_files.augment_files(AugmentJob(**fields, options=options), workers=2)
"""


def test_two_workers_write_the_same_bytes_as_one(job, forks, tmp_path):
    augment_files(job)
    two = replace(job, output=str(tmp_path / "two"))
    forks.lines(["-c", TWO_WORKERS, json.dumps(asdict(two))], tmp_path)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "two")


KILLED_RUN = """
import json, os, sys
from aict_hf.augment import files as augment_files
from aict_hf.augment.options import AugmentJob, CopyPasteOptions
write, written = augment_files._write, []
def write_and_die(path, content):
    write(path, content)
    written.append(path)
    if len(written) == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
augment_files._write = write_and_die
fields = json.loads(sys.argv[1])
options = CopyPasteOptions(**fields.pop("options"))
augment_files.augment_files(AugmentJob(**fields, options=options))
"""


@pytest.mark.parametrize("writes", [9, pytest.param(15, marks=pytest.mark.slow)])  # in the middle of blocks 1 and 3
def test_a_killed_run_goes_on_without_losing_or_doubling_anything(job, tmp_path, writes):
    """Blocks of two images, with two pictures for the contact sheet and a record each."""
    job = naive(job)
    program = [sys.executable, "-c", KILLED_RUN, json.dumps(asdict(job)), str(writes)]
    assert subprocess.run(program, check=False).returncode == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / ".parts").glob("0*.json")}
    assert len(done) == {9: 1, 15: 3}[writes]
    assert len(list((tmp_path / "out" / "images").iterdir())) == {9: 3, 15: 6}[writes]
    left = tmp_path / "out" / "images" / ".aict-left.jpg"  # as if it had been killed while writing
    left.touch()
    assert len(AugmentRun(job).start()) == 6 - len(done)
    assert {path: path.stat().st_mtime_ns for path in done} == done
    report = augment_files(job)
    assert (report.written, report.earlier) == (10, {9: 2, 15: 5}[writes])
    augment_files(replace(job, output=str(tmp_path / "whole")))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    report = augment_files(job)
    assert (report.written, report.earlier) == (10, 10)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


def test_a_run_that_was_killed_while_finishing_is_finished(job, tmp_path):
    job = naive(job)
    run = AugmentRun(job)
    for number in run.start():
        run.make_block(number)
    (tmp_path / "out" / "annotations.json").write_text("half")
    assert augment_files(job).earlier == 10
    assert len(COCO(tmp_path / "out" / "annotations.json").imgs) == 10


def test_other_settings_need_another_folder(job, tmp_path):
    augment_files(naive(job))
    with pytest.raises(InputError, match=r"was begun with other settings \(seed\)"):
        augment_files(naive(pasting(job, seed=2)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(InputError, match="exists and is not an interrupted run"):
        augment_files(naive(job, output=str(tmp_path / "full")))


def test_originals_are_kept_to_the_byte(job, tmp_path):
    augment_files(naive(job, keep_originals=True, copies=1))
    coco, source = COCO(tmp_path / "out" / "annotations.json"), COCO(tmp_path / "in" / "annotations.json")
    assert len(coco.imgs) == 10
    for number in range(5):
        name = f"images/{number}.jpg"
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
        for ours, given in zip(coco.imgToAnns[number + 1], source.imgToAnns[number + 10], strict=True):
            assert ours["segmentation"] == given["segmentation"]
            assert ours["area"] == given["area"]


READERS = {
    "coco": lambda out: read_coco(out / "annotations.json"),
    "yolo": read_yolo,
    "imagefolder": read_hf,
    "parquet": read_hf,
}


@pytest.mark.parametrize("format_name", READERS)
def test_every_format_can_be_augmented_again(job, tmp_path, format_name):
    """And holds the same objects, crowds and holes left aside for YOLO."""
    augment_files(naive(job, format="coco", output=str(tmp_path / "expected")))
    expected = READERS["coco"](tmp_path / "expected")
    augment_files(naive(job, format=format_name))
    written = READERS[format_name](tmp_path / "out")
    assert len(written.images) == 10
    by_name = {image.name: image for image in written.images}
    for image in expected.images:
        ours, theirs = by_name[image.name].sample(), image.sample()
        assert np.array_equal(ours["image"], theirs["image"])
        kept = [not a["iscrowd"] for a in image.annotations] if format_name == "yolo" else slice(None)
        masks = theirs["masks"][kept]
        assert ours["masks"].shape == masks.shape
        for one, other in zip(ours["masks"], masks, strict=True):
            assert (one & other).sum() >= (0.9 if format_name == "yolo" else 1) * (one | other).sum()
        names = [written.category_names[label] for label in ours["labels"]]
        assert names == [expected.category_names[label] for label in theirs["labels"][kept]]
    again = naive(job, source=str(tmp_path / "out"), output=str(tmp_path / "again"), copies=1)
    if format_name == "coco":
        again = replace(again, source=str(tmp_path / "out" / "annotations.json"))
    assert augment_files(again).written == 10


def test_webdataset_shards_hold_every_image_once(job, tmp_path):
    augment_files(naive(job, format="webdataset"))
    rows = datasets.load_dataset(
        "webdataset", data_files={"train": f"{tmp_path}/out/data/*.tar"}, split="train", streaming=True
    )
    names = [row["json"]["file_name"] for row in rows]
    assert sorted(names) == sorted(f"{n}_aug{c}.jpg" for c in (1, 2) for n in range(5))


def test_cut_outs_may_be_pools_and_the_datasets_own_objects(job, tmp_path):
    write_pool(tmp_path / "pool", 2)
    both = (str(tmp_path / "cutouts"), str(tmp_path / "pool"))
    run = AugmentRun(replace(job, cutouts=both, category="plane"))
    named = [source.category for source in run.transform.cutouts.sources]
    assert named == ["bird", "bird", "kite", "kite", "plane", "plane"]  # what a folder is named after stays
    assert run.dataset.categories[2:] == [{"id": 10, "name": "bird"}, {"id": 11, "name": "plane"}]
    with pytest.raises(InputError, match="name one for all of them"):
        AugmentRun(replace(job, cutouts=both))
    own = AugmentRun(replace(job, cutouts=(job.source,)))
    assert own.transform.cutouts[0].category == "dog"  # crowds, and what is small, are left out
    assert len(own.transform.cutouts) == len(AugmentRun(replace(job, cutouts=())).transform.cutouts) == 5
    (tmp_path / "in" / "images").rename(tmp_path / "elsewhere")
    elsewhere = replace(job, images=str(tmp_path / "elsewhere"), cutouts=(job.source,))
    with pytest.raises(InputError, match="no such file"):
        AugmentRun(elsewhere)
    found = AugmentRun(replace(elsewhere, cutout_images=elsewhere.images))
    assert found.transform.cutouts[0].category == "dog"


def change_annotations(tmp_path, change):
    path = tmp_path / "in" / "annotations.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_yolo_classes_are_numbered_from_zero_without_gaps(job, tmp_path):
    augment_files(naive(job, format="yolo"))
    assert read_yolo(tmp_path / "out").category_names == {0: "kite", 1: "dog", 2: "bird"}
    labels = [path.read_text().splitlines() for path in (tmp_path / "out" / "labels").rglob("*.txt")]
    assert {line.split()[0] for lines in labels for line in lines} == {"0", "1", "2"}


def test_objects_that_mark_no_pixel_are_named(job, tmp_path):
    change_annotations(tmp_path, lambda c: c["annotations"][0].update(segmentation=[[5, 5, 5.1, 5, 5.1, 5.1]]))
    report = augment_files(naive(job, copies=1))
    assert report.warnings == ["0.jpg: 1 objects have an empty mask and are left out"]
    report = augment_files(naive(job, copies=1, keep_originals=True, format="yolo", output=str(tmp_path / "yolo")))
    assert len(read_yolo(tmp_path / "yolo").images) == report.written == 10
    change_annotations(tmp_path, lambda c: c["annotations"][0].update(segmentation=[]))
    report = augment_files(naive(job, copies=1, output=str(tmp_path / "empty")))
    assert (report.failures, report.warnings) == ([], [])


def only_boxes(content):
    for annotation in content["annotations"]:
        del annotation["segmentation"]
        annotation.setdefault("bbox", [10, 10, 20, 15])


@pytest.mark.parametrize("format_name", ["coco", "yolo", "imagefolder", "parquet"])
def test_cut_outs_are_pasted_into_datasets_of_boxes(job, tmp_path, format_name):
    change_annotations(tmp_path, only_boxes)
    report = augment_files(naive(job, copies=1, format=format_name))
    assert (report.written, report.failures, report.warnings) == (5, [], [])
    reader = {
        "coco": lambda: read_coco(tmp_path / "out" / "annotations.json"),
        "yolo": lambda: read_yolo(tmp_path / "out"),
    }
    dataset = reader.get(format_name, lambda: read_hf(tmp_path / "out"))()
    assert "bird" in {dataset.category_names[a["category_id"]] for i in dataset.images for a in i.annotations}
    assert len(dataset.images[0].sample()["boxes"]) >= 3
    if format_name == "yolo":
        labels = [path.read_text().splitlines() for path in (tmp_path / "out" / "labels").rglob("*.txt")]
        assert {len(line.split()) for lines in labels for line in lines} == {5}
    with pytest.raises(InputError, match=r"annotations.json: no object of .* have only a box, and cannot be cut out"):
        augment_files(naive(job, cutouts=(), output=str(tmp_path / "own")))


def test_a_few_boxes_among_masks_are_said(job, tmp_path):
    change_annotations(tmp_path, lambda c: c["annotations"][0].update(segmentation=[]))
    report = augment_files(naive(job, copies=1, cutouts=(), format="yolo"))
    boxes, corners = report.warnings
    assert boxes == "1 objects have only a box, and are not cut out"
    assert corners.startswith("1 objects have only a box; their polygons are its corners")


def test_objects_are_not_cut_out_of_images_of_another_size(job, tmp_path):
    change_annotations(
        tmp_path, lambda c: [a.update(segmentation=[[30, 20, 70, 20, 70, 50, 30, 50]]) for a in c["annotations"]]
    )
    with Image.open(tmp_path / "in" / "images" / "0.jpg") as image:
        image.resize((160, 120)).save(tmp_path / "in" / "images" / "0.jpg")
    report = augment_files(naive(job, cutouts=(), copies=4))
    assert {failure.split(":")[0] for failure in report.failures} == {"0.jpg"}
    written = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    origins = {a["foreground"].split("#")[0] for a in written if "foreground" in a}
    assert origins
    assert "0.jpg" not in origins


def test_failures_are_tried_again(job, tmp_path):
    image = tmp_path / "in" / "images" / "1.jpg"
    content = image.read_bytes()
    image.write_bytes(b"")
    assert len(augment_files(naive(job)).failures) == 2
    assert len(COCO(tmp_path / "out" / "annotations.json").imgs) == 8
    image.write_bytes(content)
    report = augment_files(naive(job))
    assert (report.written, report.earlier, report.failures) == (10, 6, [])  # blocks of 2, 2 and 1
    augment_files(naive(job, output=str(tmp_path / "whole")))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


def test_changed_annotations_need_another_folder(job, tmp_path):
    AugmentRun(naive(job)).start()
    change_annotations(tmp_path, lambda c: c["annotations"][0].update(area=3))
    with pytest.raises(InputError, match=r"other settings \(annotations\)"):
        augment_files(naive(job))


@pytest.mark.parametrize("finished", [False, True])
def test_changed_cut_outs_need_another_folder(job, tmp_path, finished):
    augment_files(naive(job)) if finished else AugmentRun(naive(job)).start()
    cutout = next((tmp_path / "cutouts").rglob("*.png"))
    Image.new("RGBA", (20, 20), "red").save(cutout)
    with pytest.raises(InputError, match=r"other settings \(foreground_files\)"):
        augment_files(naive(job))
    cutout.with_name("new.png").write_bytes(cutout.read_bytes())
    with pytest.raises(InputError, match=r"other settings \(foregrounds, foreground_files\)"):
        augment_files(naive(job))


def test_changed_images_are_augmented_again(job, tmp_path):
    run = AugmentRun(naive(job))
    for number in run.start():
        run.make_block(number)
    with Image.open(tmp_path / "in" / "images" / "4.jpg") as image:
        image.rotate(180).save(tmp_path / "in" / "images" / "4.jpg")
    report = augment_files(naive(job))
    assert (report.written, report.earlier) == (10, 8)  # the image is alone in its block, once in each copy
    (tmp_path / "in" / "images" / "4.jpg").touch()
    with pytest.raises(InputError, match="was finished with other image files; choose another folder"):
        augment_files(naive(job))


def test_another_network_under_the_same_name_needs_another_folder(job, tmp_path, monkeypatch):
    monkeypatch.setattr("aict_hf.augment.files.checkpoint_location", lambda name: str(tmp_path / "network"))
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "model.safetensors").write_bytes(b"before")
    AugmentRun(job).start()
    (tmp_path / "network" / "model.safetensors").write_bytes(b"afterwards")
    with pytest.raises(InputError, match=r"other settings \(weights\)"):
        AugmentRun(job).start()


@pytest.mark.parametrize("folder", ["cutouts/out", "f/aug", "y/images/train/aug"])
def test_an_output_inside_the_input_is_refused_at_once(job, tmp_path, folder):
    augment_files(naive(job, copies=1, output=str(tmp_path / "y"), format="yolo"))
    augment_files(naive(job, copies=1, output=str(tmp_path / "f"), format="imagefolder"))
    source = str(tmp_path / folder[0]) if "/aug" in folder else job.source
    inside = naive(job, source=source, output=str(tmp_path / folder), copies=1)
    for _ in range(2):
        with pytest.raises(InputError, match=rf"{folder}: lies in .*, where the next run would read"):
            augment_files(inside)
    assert not (tmp_path / folder).exists()


def test_an_output_beside_the_images_is_fine(job, tmp_path):
    for _ in range(2):
        assert augment_files(naive(job, output=str(tmp_path / "in" / "aug"))).written == 10


def test_changed_objects_of_an_imagefolder_need_another_folder(job, tmp_path):
    augment_files(naive(job, copies=1, output=str(tmp_path / "f"), format="imagefolder"))
    again = naive(job, source=str(tmp_path / "f"), copies=1)
    AugmentRun(again).start()
    path = tmp_path / "f" / "train" / "metadata.jsonl"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1', 1))
    with pytest.raises(InputError, match=r"other settings \(annotations\)"):
        AugmentRun(again).start()


def test_what_is_left_out_is_said(job, tmp_path):
    (tmp_path / "cutouts" / "notes.txt").touch()
    assert augment_files(naive(job, copies=1)).warnings == [
        f"{tmp_path / 'cutouts'}: left out 1 file of other kinds (.txt 1)"
    ]


@pytest.mark.parametrize("left", ["nothing but a temporary file", "{}", "[]"])
def test_a_folder_is_entered_only_if_a_run_began_there(job, tmp_path, left):
    (tmp_path / "out").mkdir()
    if left.startswith("nothing"):
        (tmp_path / "out" / ".aict-augment.json").touch()
        assert len(AugmentRun(naive(job)).start()) == 6
        return
    (tmp_path / "out" / "augment.json").write_text(left)
    with pytest.raises(InputError, match="exists and is not an interrupted run"):
        AugmentRun(naive(job)).start()


def test_shards_of_images_of_several_kinds_hold_png_alone(job, tmp_path):
    with Image.open(tmp_path / "in" / "images" / "1.jpg") as image:
        image.save(tmp_path / "in" / "images" / "1.png")
    change_annotations(tmp_path, lambda c: c["images"][1].update(file_name="1.png"))
    augment_files(naive(job, format="webdataset", keep_originals=True, copies=1))
    rows = datasets.load_dataset(
        "webdataset", data_files={"train": f"{tmp_path}/out/data/*.tar"}, split="train", streaming=True
    )
    rows = list(rows)
    assert [row["json"]["file_name"] for row in rows[:3]] == ["0.png", "1.png", "2.png"]
    assert len(rows) == 10
    with Image.open(tmp_path / "in" / "images" / "0.jpg") as image:
        assert np.array_equal(rows[0]["png"], image)


def test_folders_of_images_come_back_with_their_names(job, tmp_path):
    for number in range(2):
        (tmp_path / "in" / "images" / f"{number}").mkdir()
        (tmp_path / "in" / "images" / f"{number}.jpg").rename(tmp_path / "in" / "images" / f"{number}" / "a.jpg")
    change_annotations(tmp_path, lambda c: [c["images"][n].update(file_name=f"{n}/a.jpg") for n in range(2)])
    augment_files(naive(job, format="imagefolder", copies=1))
    assert [image.name for image in read_hf(tmp_path / "out").images][:2] == ["0/a_aug1.jpg", "1/a_aug1.jpg"]


def test_broken_images_do_not_stop_the_others(job, tmp_path):
    (tmp_path / "in" / "images" / "1.jpg").write_bytes(b"no image")
    Image.new("RGB", (40, 30)).save(tmp_path / "in" / "images" / "2.jpg")
    (tmp_path / "cutouts" / "kite" / "broken.png").write_bytes(b"no image")
    report = augment_files(naive(job))
    assert report.written == 6
    assert sorted({failure.split("/")[-1] for failure in report.failures}) == [
        "1.jpg: is not an image of a known format; expected JPEG, PNG, WebP, TIFF or similar",
        "2.jpg: is 40 x 30 when upright, its record says height 60; were the annotations made for another size, "
        "or before it was turned?",
    ]
    assert any("broken.png" in warning for warning in report.warnings)
    assert len(COCO(tmp_path / "out" / "annotations.json").imgs) == 6
    assert augment_files(naive(job)).failures == report.failures


def test_a_sample_that_cannot_be_augmented_does_not_stop_its_batch(job, monkeypatch):
    augment = HarmonizedCopyPaste._draw

    def fails_once(self, sample, epoch):
        if sample["image_id"] == "1.jpg":
            raise MemoryError("too large")
        return augment(self, sample, epoch)

    monkeypatch.setattr(HarmonizedCopyPaste, "_draw", fails_once)
    report = augment_files(naive(job, copies=1))
    assert report.written == 4
    assert report.failures == ["1.jpg: too large"]


@pytest.mark.slow
def test_a_killed_worker_is_said_and_its_work_done_again(job, tmp_path):
    job = naive(job, copies=40, block_size=1)

    def kill_one():
        while len(list((tmp_path / "out" / ".parts").glob("0*.json"))) < 3:
            time.sleep(0.01)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    threading.Thread(target=kill_one, daemon=True).start()
    with pytest.raises(InputError, match=r"a worker died .*run again to resume"):
        augment_files(job, workers=2)
    assert not (tmp_path / "out" / "annotations.json").exists()
    report = augment_files(job)
    assert report.written == 200
    assert 3 <= report.earlier < 200
    augment_files(replace(job, output=str(tmp_path / "whole")))
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_a_worker_cannot_write_is_one_line(job, tmp_path, workers):
    AugmentRun(job).start()
    (tmp_path / "out" / "images" / "0_aug1.jpg").mkdir()
    with pytest.raises(InputError, match=r"0_aug1.jpg: cannot be written") as error:
        augment_files(job, workers=workers)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["../0.jpg", "/0.jpg"])
def test_nothing_is_written_outside_the_folder(job, tmp_path, name):
    name = str(tmp_path / "in" / "images" / "0.jpg") if name.startswith("/") else "../images/0.jpg"
    content = json.loads((tmp_path / "in" / "annotations.json").read_text())
    content["images"][0]["file_name"] = name
    (tmp_path / "in" / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="its copies would be written outside"):
        augment_files(naive(job))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "nothing"}, "nothing: no such file or folder"),
        ({"source": __file__}, "test_augment_files.py: is not a dataset; expected a COCO JSON file"),
        ({"split": "val"}, "a COCO file has no splits .split is 'val'.; give the file of the split"),
        ({"images": "x"}, "0.jpg: no such file, but"),
        ({"format": "voc"}, "format is voc; expected one of coco, yolo"),
        ({"copies": 0}, "must be 1 or more"),
        ({"cutouts": ("nothing",)}, "nothing: is neither a folder of cut-outs nor a COCO JSON file; it does not exist"),
        ({"cutouts": ("a.json", "b")}, "cannot be mixed with others"),
        ({"cutouts": (), "category": "dog"}, "annotated objects have categories"),
        ({"cutout_images": "x"}, "goes with a COCO JSON file"),
    ],
)
def test_bad_jobs_are_refused(job, change, words):
    with pytest.raises(InputError, match=words):
        AugmentRun(replace(job, **change))


def test_names_that_would_clash_are_refused(job, tmp_path):
    content = json.loads((tmp_path / "in" / "annotations.json").read_text())
    shutil.copy(tmp_path / "in" / "images" / "0.jpg", tmp_path / "in" / "images" / "0.png")
    content["images"].append(content["images"][0] | {"id": 99, "file_name": "0.png"})
    (tmp_path / "in" / "annotations.json").write_text(json.dumps(content))
    AugmentRun(job).start()
    with pytest.raises(InputError, match="two images would be written as 0_aug1; rename one"):
        AugmentRun(replace(job, format="yolo", output=str(tmp_path / "yolo"))).start()


def test_originals_that_look_like_copies_are_refused(job, tmp_path):
    shutil.copy(tmp_path / "in" / "images" / "1.jpg", tmp_path / "in" / "images" / "0_aug2.jpg")
    change_annotations(tmp_path, lambda c: c["images"][1].update(file_name="0_aug2.jpg"))
    AugmentRun(naive(job)).start()
    with pytest.raises(InputError, match=r"two images would be written as 0_aug2.jpg; rename one"):
        AugmentRun(naive(job, keep_originals=True, output=str(tmp_path / "kept"))).start()


def test_objects_over_the_limit_are_counted_and_the_others_carry_their_disharmony(job, tmp_path):
    whole = augment_files(pasting(job, max_disharmony=1000.0))
    assert whole.dropped == 0
    records = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    distances = sorted(record["disharmony"] for record in records if "foreground" in record)
    limit = sum(distances[len(distances) // 2 :][:2]) / 2  # between two, because what is written is rounded
    part = augment_files(pasting(job, tmp_path / "part", max_disharmony=limit))
    assert part.dropped == sum(distance > limit for distance in distances) > 0
    records = json.loads((tmp_path / "part" / "annotations.json").read_text())["annotations"]
    kept = sorted(record["disharmony"] for record in records if "foreground" in record)
    assert kept == [distance for distance in distances if distance <= limit]
    again = augment_files(pasting(job, tmp_path / "part", max_disharmony=limit))
    assert again.dropped == part.dropped
