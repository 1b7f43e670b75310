"""training/user_study.py: its input, its votes and its statistics. test_user_study_browser.py has the page."""

import collections
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from aict_hf.errors import InputError

TRAINING = Path(__file__).resolve().parents[1] / "training"
sys.path.insert(0, str(TRAINING))
import study_votes  # noqa: E402
import user_study  # noqa: E402
from study_votes import StudyPhoto, Vote, VoteFile, open_votes  # noqa: E402

try:
    import study_report
except ImportError:
    study_report = None
sys.path.remove(str(TRAINING))

needs_statsmodels = pytest.mark.skipif(study_report is None, reason="needs statsmodels")
METHODS = ("ours", "pctnet", "dccf")


@pytest.fixture
def folders(tmp_path):
    """Three photos with masks and the results of three methods."""
    for name in ("composites", "masks", *METHODS):
        (tmp_path / name).mkdir()
    for number in range(3):
        photo, mask = make_photo(seed=number)
        Image.fromarray(photo).save(tmp_path / "composites" / f"{number}.jpg")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        for level, method in enumerate(METHODS, 2):
            Image.fromarray(photo // level).save(tmp_path / method / f"{number}.png")
    return tmp_path


def read(folders, *methods):
    given = [f"{name}={folders / name}" for name in methods or METHODS]
    return user_study.read_study(folders / "composites", folders / "masks", user_study.method_folders(given))


@pytest.fixture
def photos(tmp_path):
    """Photos whose files are no images: the votes do not look into them."""
    photos = []
    for number in range(4):
        results = {method: tmp_path / f"{number}_{method}" for method in METHODS}
        for path in (tmp_path / f"{number}", *results.values()):
            path.write_text(path.name)
        photos.append(StudyPhoto(f"{number}.jpg", tmp_path / f"{number}", tmp_path / f"{number}", results))
    return photos


@pytest.fixture
def file(photos, tmp_path):
    return open_votes(tmp_path / "votes.db", photos)


def test_every_flag_has_a_help_text():
    for parser in (user_study.serve_parser, user_study.report_parser):
        assert [flag.dest for flag in parser._actions if not flag.help] == []


def test_results_are_found_by_name_whatever_their_format(folders):
    (folders / "ours" / "1.png").unlink()
    Image.open(folders / "composites" / "1.jpg").save(folders / "ours" / "1.WEBP")
    found = read(folders)
    assert [photo.name for photo in found] == ["0.jpg", "1.jpg", "2.jpg"]
    assert found[1].results["ours"].name == "1.WEBP"
    assert found[1].mask == folders / "masks" / "1.png"


def test_missing_and_misnamed_results_are_named(folders):
    (folders / "pctnet" / "1.png").rename(folders / "pctnet" / "1_result.png")
    (folders / "dccf" / "0.png").unlink()
    (folders / "masks" / "2.png").unlink()
    with pytest.raises(InputError) as raised:
        read(folders)
    message = str(raised.value)
    assert "\n" not in message
    assert f"{folders / 'masks'}: 2.jpg should have one mask each" in message
    assert f"{folders / 'pctnet'}: lacks the results of pctnet for 1.jpg; 1_result.png fit no composite" in message
    assert f"{folders / 'dccf'}: lacks the results of dccf for 0.jpg" in message
    assert "ours" not in message


def test_two_results_for_one_composite_are_named(folders):
    Image.new("RGB", (56, 40)).save(folders / "ours" / "0.jpg")
    with pytest.raises(InputError, match=r"0\.jpg, 0\.png are several results for one composite"):
        read(folders)


def test_two_composites_of_one_name_are_named(folders):
    Image.new("RGB", (56, 40)).save(folders / "composites" / "0.webp")
    with pytest.raises(InputError, match=r"0\.jpg, 0\.webp have one name"):
        read(folders)


def test_a_methods_other_results_are_no_error(folders):
    Image.new("RGB", (7, 7)).save(folders / "ours" / "another.png")
    assert len(read(folders)) == 3


def test_other_sizes_are_named(folders):
    Image.new("RGB", (28, 20)).save(folders / "pctnet" / "2.png")
    with pytest.raises(InputError, match=r"pctnet/2\.png: is 28 x 20, its composite is 56 x 40; all pictures"):
        read(folders)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (["ours"], "expected NAME=FOLDER"),
        (["=a", "b=b"], "expected NAME=FOLDER"),
        (["/mask=a", "b=b"], "expected NAME=FOLDER"),
        (["a=a"], "names 1; a study compares 2 to 10"),
        (["a=a", "a=b"], "names a twice"),
        (["a=a", "b=c/../a"], "a and b are the same folder"),
    ],
)
def test_wrong_methods_are_named(methods, message):
    with pytest.raises(InputError, match=message):
        user_study.method_folders(methods)


@pytest.mark.parametrize(
    ("place", "content", "message"),
    [
        ("pctnet/1.png", b"no image", r"pctnet/1\.png: is not an image"),
        ("masks/1.png", make_photo()[0], r"masks/1\.png: "),
        ("ours/1.png", np.zeros((40, 56, 4), np.uint8), r"ours/1\.png: has transparent pixels"),
    ],
)
def test_pictures_that_cannot_be_shown_are_errors_before_the_page_starts(folders, place, content, message):
    if isinstance(content, bytes):
        (folders / place).write_bytes(content)
    else:
        Image.fromarray(content).save(folders / place)
    (folders / "pictures").mkdir()
    with pytest.raises(InputError, match=message):
        user_study.page_pictures(read(folders), folders / "pictures")


def test_files_of_the_page_tell_no_method(folders):
    shown = folders / "shown"
    shown.mkdir()
    for number in range(3):  # the same pixels with other metadata
        image = Image.open(folders / "ours" / f"{number}.png")
        image.save(folders / "dccf" / f"{number}.png", dpi=(300, 300))
    pictures = user_study.page_pictures(read(folders), shown)
    assert set(pictures) == {(f"{n}.jpg", method) for n in range(3) for method in ("", "/mask", *METHODS)}
    assert all(len(path.stem) == 24 and path.suffix == ".png" for path in pictures.values())
    assert pictures["0.jpg", "ours"].read_bytes() == pictures["0.jpg", "dccf"].read_bytes()
    assert np.array_equal(Image.open(pictures["1.jpg", "pctnet"]), Image.open(folders / "pctnet" / "1.png"))
    mask = np.asarray(Image.open(folders / "masks" / "1.png"))
    cover = np.asarray(Image.open(pictures["1.jpg", "/mask"]))[..., 1]
    assert cover[mask == 255].max() == 0
    assert cover[mask == 0].min() > 150


def test_a_vote_is_kept_with_the_order_shown(file):
    shown = file.next_photo("ada")
    assert file.save_vote(shown.ticket, [2, 0, 1]) == ("ada", True)
    [vote] = VoteFile(file.path).votes()
    assert vote == Vote("ada", shown.photo, [shown.methods[place] for place in (2, 0, 1)], shown.methods)


def test_a_reload_shows_the_same_until_it_is_ranked(file):
    first = file.next_photo("ada")
    assert file.next_photo("ada") == first
    file.save_vote(first.ticket, [0, 1, 2])
    assert file.next_photo("ada").photo != first.photo


def test_a_second_vote_for_a_photo_changes_nothing(file):
    shown = file.next_photo("ada")
    with ThreadPoolExecutor(8) as pool:
        new = list(pool.map(lambda _: file.save_vote(shown.ticket, [0, 1, 2])[1], range(16)))
    assert new.count(True) == 1
    assert file.save_vote(shown.ticket, [2, 1, 0]) == ("ada", False)
    assert [vote.ranking for vote in file.votes()] == [shown.methods]


def test_the_file_itself_refuses_two_votes(file):
    file.save_vote(file.next_photo("ada").ticket, [0, 1, 2])
    database = sqlite3.connect(file.path)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        database.execute("INSERT INTO votes SELECT * FROM votes")
    database.close()


def test_what_is_no_ranking_is_refused(file):
    shown = file.next_photo("ada")
    for positions in ([0, 1], [0, 0, 1], [1, 2, 3]):
        with pytest.raises(InputError, match="expected each of 3 pictures once"):
            file.save_vote(shown.ticket, positions)
    with pytest.raises(InputError, match="was not shown"):
        file.save_vote("made up", [0, 1, 2])
    assert file.votes() == []


def test_a_killed_process_loses_no_saved_vote_and_leaves_no_half_one(file):
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(TRAINING)!r})
from study_votes import VoteFile, transaction
file = VoteFile(__import__("pathlib").Path({str(file.path)!r}))
file.save_vote(file.next_photo("ada").ticket, [0, 1, 2])
second = file.next_photo("ada")
with transaction(file.path) as database:
    database.execute("INSERT INTO votes VALUES ('ada', ?, '[]', '')", (second.photo,))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert len(file.votes()) == 1
    shown = file.next_photo("ada")
    assert file.save_vote(shown.ticket, [1, 2, 0]) == ("ada", True)


def test_photos_get_equal_numbers_of_votes_though_volunteers_leave_early(file):
    for number in range(6):  # each ranks two photos and looks at a third
        for _ in range(2):
            file.save_vote(file.next_photo(f"guest {number}").ticket, [0, 1, 2])
        file.next_photo(f"guest {number}")
    counts = collections.Counter(vote.photo for vote in file.votes())
    assert list(counts.values()) == [3] * 4


def test_volunteers_at_the_same_time_see_different_photos(file):
    assert len({file.next_photo(f"guest {number}").photo for number in range(4)}) == 4


def test_the_seed_decides_the_orders(photos, tmp_path):
    def orders(name, seed):
        opened = open_votes(tmp_path / name, photos, seed=seed)
        found = []
        for number in range(4):
            shown = opened.next_photo(f"guest {number}")
            found.append((shown.photo, shown.methods))
        return found

    assert orders("a.db", 1) == orders("b.db", 1) != orders("c.db", 2)


def test_every_method_stands_at_every_place_equally_often(file):
    shown = [file.next_photo(f"guest {number}").methods for number in range(180)]
    for place in range(3):  # the standard deviation of a count is 6.3
        counts = collections.Counter(methods[place] for methods in shown)
        assert all(abs(counts[method] - 60) < 20 for method in METHODS), counts


def test_a_volunteer_is_done_after_all_photos_or_the_limit(file):
    for volunteer, limit, votes in (("ada", None, 4), ("bob", 3, 3)):
        while shown := file.next_photo(volunteer, limit=limit):
            file.save_vote(shown.ticket, [0, 1, 2])
        assert file.count(volunteer) == votes


def test_a_study_goes_on_only_as_it_was_started(photos, file, tmp_path):
    file.save_vote(file.next_photo("ada").ticket, [0, 1, 2])
    assert len(open_votes(file.path, photos).votes()) == 1
    with pytest.raises(InputError, match="other seeds"):
        open_votes(file.path, photos, seed=1)
    with pytest.raises(InputError, match=r"other photos \(only 3.jpg then\)"):
        open_votes(file.path, photos[:3])
    photos[1].results["ours"].write_text("other pixels")
    with pytest.raises(InputError, match="1_ours: is another picture than before"):
        open_votes(file.path, photos)
    for photo in photos:
        photo.results["new"] = photo.results.pop("ours")
    with pytest.raises(InputError, match=r"other methods \(only new now, only ours then\)"):
        open_votes(file.path, photos)


def test_files_without_votes_are_refused(tmp_path, photos):
    with pytest.raises(InputError, match="no such file"):
        VoteFile(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("no votes here" * 100)
    with pytest.raises(InputError, match=r"text\.db: cannot be used as a file of votes \(file is not a database\)"):
        VoteFile(tmp_path / "text.db")
    database = sqlite3.connect(tmp_path / "other.db")
    database.execute("CREATE TABLE songs (name TEXT)")
    database.close()
    for use in (VoteFile, lambda path: open_votes(path, photos)):
        with pytest.raises(InputError, match="is not a file of votes"):
            use(tmp_path / "other.db")
    with pytest.raises(InputError, match="unable to open"):
        open_votes(tmp_path / "missing" / "votes.db", photos)


def test_the_report_reads_while_the_page_writes(file):
    file.save_vote(file.next_photo("ada").ticket, [0, 1, 2])
    with study_votes.transaction(file.path):  # as a page does that saves a vote at this moment
        assert len(VoteFile(file.path).votes()) == 1


def test_names_of_volunteers():
    assert study_votes.volunteer_name("  ADA\tLovelace ") == study_votes.volunteer_name("ada lovelace")
    first, second = study_votes.volunteer_name(""), study_votes.volunteer_name(" ")
    assert first.startswith("guest-")
    assert first != second
    with pytest.raises(InputError, match="at most 40"):
        study_votes.volunteer_name("a" * 41)


def drawn_votes(strengths, *, volunteers, photos, seed, of_photos=0.0):
    """Rankings by the Bradley-Terry (Plackett-Luce) model, with strengths that vary from photo to photo."""
    rng = np.random.default_rng(seed)
    names = list(strengths)
    moved = np.array(list(strengths.values())) + of_photos * rng.normal(size=(photos, len(names)))
    noise = rng.gumbel(size=(volunteers, photos, len(names)))
    return [
        Vote(f"v{volunteer}", f"p{photo}", [names[i] for i in np.argsort(-(moved[photo] + row))], names)
        for volunteer, rows in enumerate(noise)
        for photo, row in enumerate(rows)
    ]


TRUTH = {"weak": -0.9, "good": 0.8, "middle": 0.3, "fair": -0.2}


@needs_statsmodels
def test_the_papers_score():
    rankings = (["a", "b", "c", "d"], ["b", "a", "d", "c"])
    table = study_report.scores(
        [Vote("v", str(index), ranking, list("abcd")) for index, ranking in enumerate(rankings)]
    )
    assert table.method.to_list() == ["a", "b", "c", "d"]
    assert table.score.to_list() == [5, 5, 1, 1]
    assert table["per vote"].to_list() == [2.5, 2.5, 0.5, 0.5]
    assert table["first"].to_list() == [0.5, 0.5, 0, 0]


@needs_statsmodels
def test_two_methods_get_the_log_odds_of_their_preferences():
    votes = [Vote(f"v{i}", f"p{i % 5}", list("ab" if i % 4 else "ba"), list("ab")) for i in range(40)]
    fit = study_report.fit_bradley_terry(votes)
    assert fit.methods == ["a", "b"]
    assert fit.strengths[0] - fit.strengths[1] == pytest.approx(np.log(3), abs=1e-4)


@needs_statsmodels
def test_known_strengths_are_recovered():
    fit = study_report.fit_bradley_terry(drawn_votes(TRUTH, volunteers=40, photos=50, seed=0))
    assert fit.methods == ["good", "middle", "fair", "weak"]
    assert fit.strengths == pytest.approx([0.8, 0.3, -0.2, -0.9], abs=0.1)


@needs_statsmodels
def test_intervals_cover_the_truth_though_photos_differ():
    # Strengths that differ from photo to photo shrink the mean odds, so the truth is that of a very large study.
    large = study_report.fit_bradley_terry(drawn_votes(TRUTH, volunteers=4, photos=1500, seed=99, of_photos=0.7))
    truth = dict(zip(large.methods, large.strengths, strict=True))
    covered, independent = [], []
    for seed in range(15):
        votes = drawn_votes(TRUTH, volunteers=12, photos=15, seed=seed, of_photos=0.7)
        fit = study_report.fit_bradley_terry(votes)
        table = study_report.strengths_table(fit)
        covered += [row["from"] <= truth[row.method] <= row.to for _, row in table.iterrows()]
        # The same votes as if each came from a volunteer and a photo of its own.
        alone = [Vote(str(i), str(i), vote.ranking, vote.shown) for i, vote in enumerate(votes)]
        table = study_report.strengths_table(study_report.fit_bradley_terry(alone))
        independent += [row["from"] <= truth[row.method] <= row.to for _, row in table.iterrows()]
    assert 0.9 <= np.mean(covered) <= 1
    assert np.mean(independent) < 0.85  # so the clusters are needed


@needs_statsmodels
def test_the_number_of_votes_that_would_settle_it_does():
    close = {"a": 0.12, "b": -0.12}
    votes = drawn_votes(close, volunteers=10, photos=10, seed=3)
    fit = study_report.BradleyTerry(["a", "b"], np.array([0.12, -0.12]), np.eye(2)[None] * 0.02, 2.0, "")
    row = study_report.neighbours_table(fit, len(votes)).iloc[0]
    assert row.settled == "no"
    # A difference of 0.24 with a standard error of 0.2, whose double must shrink to it.
    assert int(row["more votes"]) == pytest.approx(100 * ((0.4 / 0.24) ** 2 - 1), abs=1)
    assert int(row["for 80%"]) > int(row["more votes"])
    side = 10 * (1 + int(row["for 80%"]) / 100) ** 0.5
    settled = []
    for seed in range(12):
        new = study_report.fit_bradley_terry(drawn_votes(close, volunteers=round(side), photos=round(side), seed=seed))
        settled.append(study_report.neighbours_table(new, 1).iloc[0].settled == "yes" and new.methods[0] == "a")
    assert np.mean(settled) >= 0.5


@needs_statsmodels
def test_a_method_that_always_wins_has_no_finite_strength():
    votes = [Vote(f"v{i}", f"p{i % 3}", ["a", *("bc" if i % 2 else "cb")], list("abc")) for i in range(12)]
    assert "a never lost" in study_report.fit_bradley_terry(votes)
    assert "No fit: a never lost against the other methods" in study_report.report(votes, ["p0", "p1", "p2"])


@needs_statsmodels
def test_what_intervals_do_not_cover_is_said():
    votes = drawn_votes({"a": 0.2, "b": 0}, volunteers=1, photos=40, seed=0)
    text = study_report.report(votes, [f"p{number}" for number in range(40)])
    assert "There is only one of volunteers: the intervals do not cover others" in text
    alone = [Vote("v", "p", *2 * [list("ab")]), Vote("v", "p", list("ba"), list("ab"))]
    table = study_report.strengths_table(study_report.fit_bradley_terry(alone))
    assert table["from"].isna().all()
    assert "With only 3 volunteers" in study_report.report(drawn_votes(TRUTH, volunteers=3, photos=20, seed=0), ["p0"])


@needs_statsmodels
def test_the_report_from_the_command_line(file, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["user_study.py", "report", str(file.path)])
    monkeypatch.setitem(sys.modules, "study_report", study_report)
    with pytest.raises(InputError, match="holds no votes yet"):
        user_study.main()
    rng = np.random.default_rng(0)
    for number in range(3):
        while shown := file.next_photo(f"v{number}"):
            file.save_vote(shown.ticket, rng.permutation(3).tolist())
    user_study.main()
    text = capsys.readouterr().out
    assert text.startswith("12 votes of 3 volunteers for 4 photos, 3 to 3 for each\n")
    for part in ("Points: 3 for rank 1, 2 for rank 2, 1 for rank 3", "## Bradley-Terry", "more votes", "stood at A "):
        assert part in text
