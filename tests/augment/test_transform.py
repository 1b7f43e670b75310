import pickle
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image
from torch.utils.data import DataLoader

from aict_hf.augment.cutouts import Cutout, CutoutBank
from aict_hf.augment.options import CopyPasteOptions
from aict_hf.augment.transform import HarmonizedCopyPaste
from aict_hf.errors import InputError

LABELS = {"kite": 7}


def cutouts(count=3, side=24):
    made = []
    for seed in range(count):
        rgb = make_photo(side, side, seed=seed + 50)[0]
        made.append(Cutout(rgb, np.full((side, side), 255, np.uint8), "kite", f"kite {seed}"))
    return made


def make_sample(number=0, height=60, width=80):
    masks = np.zeros((3, height, width), bool)
    masks[0, 5:50, 5:40] = masks[1, 30:55, 50:75] = masks[2, 2:6, 60:64] = True
    boxes = np.array([[5, 5, 40, 50], [50, 30, 75, 55], [60, 2, 64, 6]], np.float32)
    image = make_photo(height, width, seed=number)[0]
    return {"image": image, "masks": masks, "boxes": boxes, "labels": np.array([1, 2, 3]), "image_id": number}


@pytest.fixture
def transform(harmonizer):
    def make(bank=None, labels=LABELS, box_format="xyxy", **options):
        network = {"checkpoint": harmonizer, "box_format": box_format}
        return HarmonizedCopyPaste(bank or cutouts(), labels, CopyPasteOptions(**options), **network)

    return make


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_pasted_objects_are_new_instances(transform):
    sample = make_sample()
    result = transform(objects=(2, 2), seed=1)(sample)
    new = result["origins"] == -1
    assert new.sum() == 2
    assert (result["labels"][new] == 7).all()
    assert len(result["cutouts"]) == 2
    assert not (result["masks"][new][0] & result["masks"][new][1]).any()
    for mask, box in zip(result["masks"][new], result["boxes"][new], strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    changed = (result["image"] != sample["image"]).any(axis=2)
    near = torch.nn.functional.max_pool2d(torch.from_numpy(result["masks"][new]).float(), 3, 1, 1).numpy().any(axis=0)
    assert changed.any()
    assert not changed[~near].any()


def test_objects_underneath_are_cut_and_hidden_ones_dropped(transform):
    seen_cut = seen_dropped = False
    paste = transform(objects=(1, 2), size=(0.3, 0.6), max_scale=9, min_visible=0.5)
    for number in range(20):
        sample = make_sample(number) | {"area": np.array([1575.0, 625, 16]), "iscrowd": np.array([0, 1, 0])}
        result = paste(sample)
        above = result["masks"][result["origins"] == -1].any(axis=0)
        for index, (mask, box) in enumerate(zip(sample["masks"], sample["boxes"], strict=True)):
            visible = mask & ~above
            place = np.flatnonzero(result["origins"] == index)
            if visible.sum() < 0.5 * mask.sum():
                assert len(place) == 0
                seen_dropped = True
                continue
            assert np.array_equal(result["masks"][place[0]], visible)
            assert result["area"][place[0]] == visible.sum()
            assert result["iscrowd"][place[0]] == sample["iscrowd"][index]
            if visible.sum() == mask.sum():
                assert np.array_equal(result["boxes"][place[0]], box)
            else:
                rows, columns = np.nonzero(visible)
                around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert result["boxes"][place[0]].tolist() == around
                seen_cut = True
        new = result["origins"] == -1
        assert result["area"][new].tolist() == result["masks"][new].sum(axis=(1, 2)).tolist()
        assert not result["iscrowd"][new].any()
    assert seen_cut
    assert seen_dropped


def test_harmonizing_changes_colours_and_nothing_else(transform):
    harmonized, naive = (transform(naive=n, seed=2)(make_sample()) for n in (False, True))
    pasted = naive["masks"][naive["origins"] == -1].any(axis=0)
    assert np.abs(harmonized["image"][pasted].astype(int) - naive["image"][pasted]).mean() > 3
    naive_image = naive.pop("image")
    del harmonized["image"]
    assert equal(harmonized, naive)
    zero = transform(strengths=(0, 0), seed=2)(make_sample())["image"]
    assert np.array_equal(zero, naive_image)


def test_objects_are_harmonized_against_the_photo_as_it_was(transform, model, processor):
    """Each as if it were pasted alone."""
    sample = make_sample()
    both = transform(objects=(2, 2), seed=1)(sample)
    alone = []
    paste = transform(objects=(2, 2), seed=1)
    _, pasted = paste._draw(sample, 0)
    for one in pasted:
        inputs = processor(one.image, one.mask, return_tensors="pt")
        outputs = model(**inputs, return_harmonized=False)
        alone.append(processor.post_process_harmonization(outputs, [one.image], [one.mask])[0])
    for one, image in zip(pasted, alone, strict=True):
        assert np.abs(both["image"][one.mask > 0].astype(int) - image[one.mask > 0]).max() <= 1


def test_a_list_is_one_batch_and_as_each_alone(transform, model, monkeypatch):
    samples = [make_sample(number) for number in range(4)]
    paste = transform(objects=(2, 2), batch_size=16)
    alone = [paste(sample) for sample in samples]
    runs = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda *args, **kw: runs.append(1) or forward(*args, **kw))
    together = paste(samples)
    assert len(runs) == 1
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.pop("image").astype(int) - other.pop("image")).max() <= 1  # batches differ in the last bit
        assert equal(one, other)


def test_chance_comes_from_seed_epoch_and_id(transform):
    paste = transform(seed=5)
    first = paste(make_sample())
    assert equal(first, paste(make_sample()))
    assert equal(first, transform(seed=5)(make_sample() | {"image_id": torch.tensor([0])}) | {"image_id": 0})
    paste.set_epoch(1)
    others = [paste(make_sample()), paste(make_sample(), epoch=2), transform(seed=6)(make_sample())]
    others.append(paste(make_sample() | {"image_id": "zero"}, epoch=0))
    assert equal(first, paste(make_sample(), epoch=0))
    for index, other in enumerate(others):
        assert not any(equal(other, earlier) for earlier in [first, *others[:index]])


def test_probability_number_and_strength_are_options(transform):
    sample = make_sample()
    untouched = transform(probability=0)(sample)
    assert untouched["origins"].tolist() == [0, 1, 2]
    assert untouched["cutouts"] == []
    assert all(np.array_equal(untouched[name], sample[name]) for name in sample)
    counts = [len(transform(objects=(0, 3), size=(0.1, 0.15))(make_sample(n))["cutouts"]) for n in range(30)]
    assert set(counts) == {0, 1, 2, 3}
    pasted = [len(transform(probability=0.5)(make_sample(n))["cutouts"]) > 0 for n in range(60)]
    assert 15 < sum(pasted) < 45
    drawn = [one.strength for n in range(20) for one in transform(strengths=(0.3, 0.6))._draw(make_sample(n), 0)[1]]
    assert 0.3 <= min(drawn) < 0.4
    assert 0.5 < max(drawn) <= 0.6


def as_torch(sample, image):
    return {
        "image": torch.from_numpy(image),
        "masks": torch.from_numpy(sample["masks"]).to(torch.uint8),
        "boxes": torch.from_numpy(sample["boxes"]),
        "labels": torch.from_numpy(sample["labels"]),
        "image_id": torch.tensor([sample["image_id"]]),
    }


def test_images_of_any_kind_come_back_as_they_came(transform):
    sample = make_sample()
    expected = transform()(sample)
    pil = transform()(sample | {"image": Image.fromarray(sample["image"])})
    assert isinstance(pil["image"], Image.Image)
    assert np.array_equal(pil["image"], expected["image"])
    tensors = transform()(as_torch(sample, sample["image"].transpose(2, 0, 1).copy()))
    assert np.array_equal(tensors["image"].permute(1, 2, 0), expected["image"])
    for name in ("masks", "boxes", "labels"):
        assert isinstance(tensors[name], torch.Tensor)
        assert np.array_equal(tensors[name], expected[name])
    assert tensors["masks"].dtype == torch.uint8
    assert tensors["masks"].max() == 1
    for dtype in (np.float32, np.float64):
        result = transform(naive=True)(sample | {"image": (sample["image"] / 255).astype(dtype)})["image"]
        assert result.dtype == dtype
        assert np.abs(result * 255 - transform(naive=True)(sample)["image"]).max() <= 1
        assert transform()(sample | {"image": (sample["image"] / 255).astype(dtype)})["image"].dtype == dtype
    gray = transform()(sample | {"image": sample["image"][..., 0]})["image"]
    assert gray.shape == (60, 80, 3)
    cutout = Image.fromarray(sample["image"]).convert("RGBA")
    assert transform()(sample | {"image": cutout})["image"].mode == "RGB"


def test_samples_without_objects_get_some(transform):
    empty = {"masks": np.zeros((0, 60, 80), np.uint8), "boxes": np.zeros((0, 4)), "labels": np.zeros(0, np.int64)}
    result = transform(objects=(1, 1))(make_sample() | empty)
    assert result["masks"].shape == (1, 60, 80)
    assert result["masks"].dtype == np.uint8
    assert result["boxes"].shape == (1, 4)
    assert result["labels"].tolist() == [7]


def test_lists_may_be_empty(transform):
    result = transform(objects=(1, 1))(make_sample() | {"masks": [], "boxes": [], "labels": []})
    assert result["masks"].shape == (1, 60, 80)
    assert result["boxes"].shape == (1, 4)
    assert result["labels"].tolist() == [7]
    untouched = transform(objects=(0, 0))(make_sample() | {"masks": torch.zeros(0), "boxes": [], "labels": []})
    assert untouched["masks"].shape == (0, 60, 80)


def test_masks_keep_their_values(transform):
    sample = make_sample()
    result = transform(objects=(1, 1))(sample | {"masks": sample["masks"].astype(np.uint8) * 255})
    assert set(np.unique(result["masks"])) == {0, 255}
    assert result["masks"][result["origins"] == -1].max() == 255


@pytest.mark.parametrize("box_format", ["xywh", "cxcywh"])
def test_boxes_keep_their_convention(transform, box_format):
    sample = make_sample()
    expected = transform()(sample)["boxes"]
    left, top, right, bottom = sample["boxes"].T
    corner = (left, top) if box_format == "xywh" else ((left + right) / 2, (top + bottom) / 2)
    given = np.stack([*corner, right - left, bottom - top], axis=1)
    result = transform(box_format=box_format)(sample | {"boxes": given})["boxes"]
    if box_format == "cxcywh":
        result[:, :2] -= result[:, 2:] / 2
    result[:, 2:] += result[:, :2]
    assert np.array_equal(result, expected)


def test_tv_tensors_come_back_as_tv_tensors(transform, monkeypatch):
    """With a stand-in for torchvision.tv_tensors, which need not be installed."""
    vision = types.ModuleType("torchvision.tv_tensors")

    class TVTensor(torch.Tensor):
        pass

    class BoundingBoxes(TVTensor):
        pass

    def wrap(tensor, *, like):
        wrapped = tensor.as_subclass(type(like))
        if isinstance(like, BoundingBoxes):
            wrapped.format, wrapped.canvas_size = like.format, like.canvas_size
        return wrapped

    vision.TVTensor, vision.wrap = TVTensor, wrap
    monkeypatch.setitem(sys.modules, "torchvision.tv_tensors", vision)
    plain = as_torch(make_sample(), make_sample()["image"].transpose(2, 0, 1).copy())
    expected = transform(box_format="xywh")(plain)
    sample = plain | {name: plain[name].as_subclass(TVTensor) for name in ("image", "masks")}
    sample["boxes"] = plain["boxes"].as_subclass(BoundingBoxes)
    sample["boxes"].format, sample["boxes"].canvas_size = types.SimpleNamespace(value="XYWH"), (60, 80)
    result = transform()(sample)
    assert type(result["image"]) is type(result["masks"]) is TVTensor
    assert type(result["boxes"]) is BoundingBoxes
    assert result["boxes"].canvas_size == (60, 80)
    for name in ("image", "masks", "boxes"):
        assert torch.equal(result[name].as_subclass(torch.Tensor), expected[name])
    sample["boxes"].format.value = "XYXYXYXY"
    with pytest.raises(ValueError, match="boxes are xyxyxyxy; expected one of xyxy, xywh, cxcywh"):
        transform()(sample)


def loaded(paste, workers, context=None):
    samples = [make_sample(number) for number in range(6)]
    loader = (
        DataLoader(
            samples, batch_size=2, num_workers=workers, collate_fn=paste, multiprocessing_context=context, timeout=600
        )
        if workers
        else DataLoader(samples, batch_size=2, collate_fn=paste)
    )
    return [sample for batch in loader for sample in batch]


def test_dataloader_workers_make_the_same_samples(transform):
    paste = transform(seed=3)
    here, one, two = loaded(paste, 0), loaded(paste, 1, "fork"), loaded(paste, 2, "fork")
    assert all(map(equal, one, two))
    for mine, theirs in zip(here, two, strict=True):  # here with another number of threads
        assert np.abs(mine.pop("image").astype(int) - theirs.pop("image")).max() <= 1
        assert equal(mine, theirs)


@pytest.mark.slow
def test_spawned_workers_load_the_checkpoint_themselves():
    paste = HarmonizedCopyPaste(cutouts(), LABELS, CopyPasteOptions(seed=3))
    assert all(map(equal, loaded(paste, 2, "fork"), loaded(paste, 2, "spawn")))


def test_pickles_leave_the_network_behind():
    paste = HarmonizedCopyPaste(cutouts(1), LABELS, CopyPasteOptions(objects=(1, 1)))
    size = len(pickle.dumps(paste))
    first = paste(make_sample())
    assert len(pickle.dumps(paste)) == size < 1e5
    assert equal(pickle.loads(pickle.dumps(paste))(make_sample()), first)


def test_cut_outs_larger_than_the_image_are_scaled_down(transform):
    result = transform(cutouts(side=300), objects=(1, 1))(make_sample())
    box = result["boxes"][-1]
    assert 0.15 * 60 - 2 <= max(box[2] - box[0], box[3] - box[1]) <= 0.55 * 60


def test_cut_outs_are_not_magnified_beyond_the_limit(transform):
    for number in range(10):
        result = transform(cutouts(side=10), size=(0.1, 0.9), rotation=(0, 0))(make_sample(number))
        for box in result["boxes"][result["origins"] == -1]:
            assert max(box[2] - box[0], box[3] - box[1]) <= 16
    assert transform(cutouts(side=10), size=(0.8, 0.9))(make_sample())["cutouts"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"masks": None}, "has no masks; expected image, masks, boxes, labels and image_id"),
        ({"image_id": None}, "has no image_id"),
        ({"labels": np.array([1])}, "has 3 masks, 3 boxes, 1 labels"),
        ({"masks": np.zeros((3, 6, 8), bool)}, "masks have shape"),
        ({"boxes": np.zeros((3, 5))}, "boxes of 4 numbers"),
        ({"image": np.zeros((60, 80, 5), np.uint8)}, "image has shape"),
        ({"image": Image.fromarray(np.zeros((60, 80), np.uint16))}, "a PIL image of 16 bits"),
    ],
)
def test_bad_samples_are_refused(transform, change, words):
    with pytest.raises(ValueError, match=f"sample .*: .*{words}"):
        transform()(make_sample() | change)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"box_format": "yxyx"}, "box_format is 'yxyx'; expected one of"),
        ({"cutouts": []}, "no cut-outs to paste"),
    ],
)
def test_bad_arguments_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        HarmonizedCopyPaste(**{"cutouts": cutouts(), "labels": LABELS} | options)


def test_objects_that_had_no_pixels_are_dropped(transform):
    sample = make_sample()
    sample["masks"][1] = False
    assert transform(probability=0)(sample)["origins"].tolist() == [0, 2]


def test_cut_outs_that_cannot_be_read_are_passed_over(tmp_path, transform):
    folder = tmp_path / "kite"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"no image")
    photo, mask = make_photo()
    with (
        pytest.warns(UserWarning, match="another cut-out takes its place"),
        pytest.raises(InputError, match=r"sample 0: none of 10 cut-outs could be read; .*broken.png"),
    ):
        transform(CutoutBank.from_folder(tmp_path))(make_sample())
    Image.fromarray(np.dstack([photo, mask])).save(folder / "good.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [transform(CutoutBank.from_folder(tmp_path), objects=(1, 1))(make_sample(n)) for n in range(8)]
    assert all(result["cutouts"] == ["kite/good.png"] for result in results)


def test_objects_that_fit_too_badly_are_left_out(transform):
    samples = [make_sample(number) for number in range(6)]
    every = transform(objects=(2, 2), seed=3, max_disharmony=1000)(samples)
    distances = sorted(distance for result in every for distance in result["disharmony"])
    assert len(distances) == 12
    assert all(result["dropped"] == [] for result in every)
    limit = distances[6]
    some = transform(objects=(2, 2), seed=3, max_disharmony=limit)(samples)
    for whole, part, sample in zip(every, some, samples, strict=True):
        kept = [distance <= limit for distance in whole["disharmony"]]
        names = np.array(whole["cutouts"])
        assert part["cutouts"] == names[kept].tolist()
        assert part["dropped"] == names[~np.array(kept)].tolist()
        assert len(part["disharmony"]) == (part["origins"] == -1).sum() == sum(kept)
        if not any(kept):
            assert np.array_equal(part["image"], sample["image"])
    assert 0 < sum(len(result["dropped"]) for result in some) < 12


def test_the_disharmony_of_naive_pastes_is_measured_too(transform):
    options = {"objects": (2, 2), "seed": 3, "max_disharmony": 1000}
    naive, harmonized = (transform(**options, naive=flag)(make_sample()) for flag in (True, False))
    assert naive["disharmony"] == harmonized["disharmony"]
    assert equal(
        transform(objects=(2, 2), seed=3, naive=True)(make_sample()),
        {name: value for name, value in naive.items() if name not in ("disharmony", "dropped")},
    )
