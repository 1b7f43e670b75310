import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from aict_hf.errors import InputError
from aict_hf.export.hub import RESULTS
from aict_hf.export.model_card import BEGIN, END, figures_table, fill_figures, model_card, read_results
from aict_hf.pretrained import DEFAULT_CHECKPOINT

ROOT = Path(__file__).resolve().parents[2]
TEXT = f"---\nlicense: apache-2.0\n---\n\n# A model\n\n{BEGIN}\nold\n{END}\n\nLimits.\n"


def write_results(folder, photos="out_of_domain.txt", name="mine", fmse=900.0):
    measured = {"fmse": fmse, "of_composite": 0.61234567, "not_worse": 0.7, "no_harm": 120.0, "drift": 33.0}
    composite = {"fmse": 1500.0, "of_composite": 1.0, "not_worse": 1.0, "no_harm": None, "drift": None}
    summary = {"composite": composite, "Reinhard to background": composite, "histogram to background": composite}
    result = {"dataset": "synthetic", "photos": photos, "resolution": "full", "images": 12, "device": "cpu (test)"}
    folder.mkdir(exist_ok=True)
    (folder / photos.replace(".txt", ".json")).write_text(json.dumps(result | {"summary": summary | {name: measured}}))
    return folder


def test_figures_come_from_the_results(tmp_path):
    table = figures_table(read_results(write_results(tmp_path / "evaluation")))
    assert "| photos of sources never trained on (12 composites) | mine | 900 | 0.61 |  | 0.70 | 120 | 33 |" in table
    assert "| photos of sources never trained on (12 composites) | composite | 1500 | 1.00 |  | 1.00 |  |  |" in table
    assert "cpu (test)" in table


def test_a_card_has_its_table_and_a_model_index_that_reads_back(tmp_path):
    write_results(tmp_path / "evaluation", photos="in_domain.txt", fmse=700.0)
    card = model_card(TEXT, read_results(write_results(tmp_path / "evaluation")))
    card.save(tmp_path / "README.md")
    read = ModelCard.load(tmp_path / "README.md")
    assert "old" not in read.text
    assert "Limits." in read.text
    assert read.data.license == "apache-2.0"
    values = {(result.dataset_split, result.metric_type): result.metric_value for result in read.data.eval_results}
    assert len(values) == len(read.data.eval_results) == 10
    assert values["photos held out at random", "fmse"] == 700
    assert values["photos of sources never trained on", "fmse"] == 900
    assert values["photos of sources never trained on", "of_composite"] == 0.6123


def test_without_results_the_text_stays():
    assert model_card(TEXT, []).content == TEXT


@pytest.mark.parametrize("name", ["model_card.md", "README.md"])
def test_the_documents_show_what_was_measured(name):
    text = (ROOT / name).read_text()
    results = read_results(Path(DEFAULT_CHECKPOINT) / RESULTS)
    assert [result["photos"] for result in results] == ["in_domain.txt", "out_of_domain.txt"]
    assert fill_figures(text, figures_table(results)) == text


def test_what_does_not_fit_is_explained(tmp_path):
    folder = write_results(tmp_path / "evaluation")
    write_results(folder, photos="zebras.txt", name="another")
    with pytest.raises(InputError, match=r"zebras.json: measures another; expected one checkpoint, the same in all"):
        read_results(folder)
    for broken in ("[]", '{"summary": {"mine": {}}}'):
        (folder / "broken.json").write_text(broken)
        with pytest.raises(InputError, match=r"broken.json: is not a results.json"):
            read_results(folder)
    with pytest.raises(ValueError, match="expected a line <!-- figures: begin -->"):
        fill_figures("no markers", "table")
