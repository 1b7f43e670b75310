import json

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image

from aict_hf.errors import InputError
from aict_hf.harmonize.files import check_output_folder, find_jobs, harmonize_files
from aict_hf.harmonize.options import HarmonizeOptions
from aict_hf.harmonize.run_record import RunRecord


@pytest.fixture
def folder(tmp_path):
    """Two composites, one in a subfolder, with their masks beside them."""
    (tmp_path / "in" / "day").mkdir(parents=True)
    for seed, name in enumerate(("a", "day/b")):
        photo, mask = make_photo(24, 32, seed=seed)
        Image.fromarray(photo).save(tmp_path / "in" / f"{name}.png")
        Image.fromarray(mask).save(tmp_path / "in" / f"{name}_mask.png")
    return tmp_path


@pytest.fixture
def run(folder, harmonizer):
    """Run the folder as `aict harmonize in -o out` does: written, skipped, and warnings."""

    def run(harmonizer=harmonizer, **options):
        said = []
        out = folder / "out"
        jobs, failures = find_jobs(folder / "in", None, out, warn=said.append)
        assert failures == []
        options = HarmonizeOptions(skip_existing=True, output_folder=out, **options)
        report = harmonize_files(jobs, harmonizer, options, warn=said.append)
        assert report.failures == []
        return report.written, report.skipped, said

    (folder / "out").mkdir()
    return run


def pixels(path):
    return np.asarray(Image.open(path))


AGAIN = "outputs made again, because settings or files have changed:"


def test_only_the_same_run_is_finished(folder, run):
    assert run() == (2, 0, [])
    assert run() == (0, 2, [])
    assert run(batch_size=1) == (0, 2, [])
    full = pixels(folder / "out" / "a.png")
    assert run(strength=0.0) == (2, 0, [f"{AGAIN} 2"])
    assert np.array_equal(pixels(folder / "out" / "a.png"), pixels(folder / "in" / "a.png"))
    assert run(strength=0.0) == (0, 2, [])
    assert run() == (2, 0, [f"{AGAIN} 2"])
    assert np.array_equal(pixels(folder / "out" / "a.png"), full)
    assert run(invert_mask=True)[0] == 2
    names = sorted(path.relative_to(folder / "out").as_posix() for path in (folder / "out").rglob("*"))
    assert names == ["a.png", "day", "day/b.png"]  # programs read whatever lies there


def test_a_corrected_mask_and_a_new_composite_cost_their_own_output(folder, run):
    run()
    Image.fromarray(make_photo(24, 32, seed=7)[1]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
        folder / "in" / "day" / "b_mask.png"
    )
    assert run() == (1, 1, [f"{AGAIN} 1"])
    Image.fromarray(make_photo(24, 32, seed=5)[0]).save(folder / "in" / "a.png")
    assert run() == (1, 1, [f"{AGAIN} 1"])


def test_another_network_makes_all_again(folder, run, harmonizer):
    run()
    name, weights = next(iter(harmonizer.model.named_parameters()))
    with torch.no_grad():
        weights.add_(0.01)
    try:
        assert run()[0] == 2, name
    finally:
        with torch.no_grad():
            weights.sub_(0.01)


def test_files_of_unknown_origin_are_kept_and_said(folder, run):
    (folder / "out" / "a.png").write_bytes(b"mine")
    kept = f"outputs kept, because no recorded run made them: 1 (the first is {folder / 'out' / 'a.png'})"
    assert run() == (1, 1, [kept])
    assert run(strength=0.5) == (1, 1, [f"{AGAIN} 1", kept])
    assert (folder / "out" / "a.png").read_bytes() == b"mine"


def test_an_output_that_was_begun_is_not_finished(folder, run, harmonizer):
    run()
    options = HarmonizeOptions(skip_existing=True, output_folder=folder / "out", strength=0.5)
    record = RunRecord(folder / "out", harmonizer, options, pytest.fail)
    record.begin(find_jobs(folder / "in", None, folder / "out")[0][0])  # and killed
    with record.path.open("a") as file:
        file.write('["day/b.png", [')
    assert run(strength=0.5) == (2, 0, [f"{AGAIN} 2"])


def test_a_cut_line_costs_its_own_output_once(folder, run):
    run()
    record = folder / ".out.aict.jsonl"
    lines = record.read_text().splitlines()
    finished = [i for i, line in enumerate(lines) if json.loads(line)[0] == "a.png" and json.loads(line)[2]]
    lines[finished[0]] = lines[finished[0]][:30]
    record.write_text("\n".join(lines))  # without an end of line
    assert run() == (1, 1, [f"{AGAIN} 1"])
    assert run() == (0, 2, [])
    record.write_text(record.read_text()[:-9])
    assert run() == (1, 1, [f"{AGAIN} 1"])
    assert run() == (0, 2, [])


def test_a_folder_that_takes_no_record_costs_a_warning(folder, run, monkeypatch):
    monkeypatch.setattr(RunRecord, "__init__", unwritable(RunRecord.__init__))
    written, _, said = run()
    assert written == 2
    assert len(said) == 1
    assert "a later run cannot tell what is finished" in said[0]


def unwritable(init):
    def changed(self, *arguments):
        init(self, *arguments)
        self.path = self.path / "no folder"

    return changed


def test_results_do_not_go_into_folders_of_inputs(folder):
    for output in ("in", "in/out", "in/day/../out/deep"):
        with pytest.raises(InputError, match=r"is one of the inputs|lies in .*in, where the next run"):
            check_output_folder(folder / output, [folder / "in"])
    check_output_folder(folder / "inside", [folder / "in"])
    check_output_folder(folder, [folder / "in"])


def test_several_results_do_not_go_into_the_name_of_an_image(folder):
    with pytest.raises(InputError, match=r"out\.JPG: is the name of an image; several results need a folder"):
        check_output_folder(folder / "out.JPG", [folder / "in"])
    (folder / "out.JPG").mkdir()
    check_output_folder(folder / "out.JPG", [folder / "in"])


def test_no_result_replaces_an_input(folder):
    (folder / "in" / "in").mkdir()
    (folder / "in" / "a.png").rename(folder / "in" / "in" / "a.png")
    Image.new("RGB", (9, 9)).save(folder / "in" / "a.png")
    (folder / "in" / "a_mask.png").rename(folder / "in" / "in" / "a_mask.png")
    jobs, failures = find_jobs(folder / "in", None, folder)
    assert [failure.path for failure in failures] == [folder / "in" / "in" / "a.png"]
    assert "one of the inputs; choose another folder" in str(failures[0])
    assert [job.composite.name for job in jobs] == ["a.png", "b.png"]
