"""What the votes of a user study say: scores, a Bradley-Terry fit with intervals, and how many more votes it takes.

Needs statsmodels (`pip install "aict_hf[training]"`).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm, t
from statsmodels.discrete.discrete_model import Logit
from study_votes import Vote

POINTS = (3, 2, 1)  # for the first three ranks, as in the paper
CONFIDENCE = 0.95
POWER = 0.8
FEW = 10  # clusters below which cluster-robust intervals are known to be too narrow


@dataclass(frozen=True)
class BradleyTerry:
    """A Bradley-Terry fit: method i is preferred to j with probability 1 / (1 + exp(strength j - strength i)).

    Attributes:
        methods: strongest first.
        strengths: log-odds, with mean 0, shape (methods,).
        covariances: of the strengths, shape (clusterings, methods, methods). Each allows for votes that resemble one
            another in another way: within volunteers, within photos, or within both. Empty if neither can be told.
        quantile: half width of an interval in standard errors.
        left_out: what the intervals do not allow for, in words, or "".
    """

    methods: list[str]
    strengths: np.ndarray
    covariances: np.ndarray
    quantile: float
    left_out: str

    def standard_error(self, contrast: np.ndarray) -> float:
        """The standard error of a weighted sum of strengths, by the clustering in which it is largest."""
        # The estimate for both clusterings at once is a difference, which may be too small or negative by chance.
        variances = [contrast @ covariance @ contrast for covariance in self.covariances]
        return math.sqrt(max(variances)) if variances else math.nan


def scores(votes: Sequence[Vote]) -> pd.DataFrame:
    """Each method's sum of points, points per vote, and share of votes that rank it first; best first."""
    methods = sorted(votes[0].shown)
    points = dict.fromkeys(methods, 0)
    firsts = dict.fromkeys(methods, 0)
    for vote in votes:
        firsts[vote.ranking[0]] += 1
        for method, worth in zip(vote.ranking, POINTS, strict=False):
            points[method] += worth
    rows = [(method, points[method], points[method] / len(votes), firsts[method] / len(votes)) for method in methods]
    frame = pd.DataFrame(rows, columns=["method", "score", "per vote", "first"])
    return frame.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def preferences(votes: Sequence[Vote], methods: Sequence[str]) -> np.ndarray:
    """How often the method of each row was ranked above the method of each column, shape (methods, methods)."""
    wins = np.zeros((len(methods), len(methods)), int)
    for vote in votes:
        ranking = [methods.index(method) for method in vote.ranking]
        for better, worse in itertools.combinations(ranking, 2):
            wins[better, worse] += 1
    return wins


def fit_bradley_terry(votes: Sequence[Vote]) -> BradleyTerry | str:
    """Fit strengths to the pairs of each ranking.

    The fit is a logistic regression by statsmodels. Its intervals allow for votes of one volunteer, and votes for one
    photo, that resemble one another (clusters by two ways: Cameron, Gelbach and Miller, 2011), and with that for the
    pairs of one ranking, which are not independent.

    Returns:
        the fit, or why there is none: some methods always won.
    """
    methods = sorted(votes[0].shown)
    wins = preferences(votes, methods)
    parts, part_of = connected_components(wins > 0, connection="strong")
    if parts > 1:
        # The strongest part is the one that never lost to another.
        top = next(part for part in range(parts) if not wins[np.ix_(part_of != part, part_of == part)].any())
        names = ", ".join(method for method, part in zip(methods, part_of, strict=True) if part == top)
        return f"{names} never lost against the other methods, so the difference has no finite estimate yet"

    outcomes, features, clusters = [], [], []
    volunteers, volunteer_of = np.unique([vote.volunteer for vote in votes], return_inverse=True)
    photos, photo_of = np.unique([vote.photo for vote in votes], return_inverse=True)
    for index, vote in enumerate(votes):
        ranking = [methods.index(method) for method in vote.ranking]
        for better, worse in itertools.combinations(ranking, 2):
            row = np.zeros(len(methods))
            row[min(better, worse)], row[max(better, worse)] = 1, -1
            features.append(row[1:])  # the first method's strength is 0
            outcomes.append(float(better < worse))
            clusters.append((volunteer_of[index], photo_of[index]))
    groups = np.array(clusters)
    ways = [way for way, names in enumerate((volunteers, photos)) if len(names) > 1]
    regression = Logit(np.array(outcomes), np.array(features))
    # Strengths with mean 0, from strengths against the first method.
    center = (np.eye(len(methods)) - 1 / len(methods))[:, 1:]
    covariances = []
    for chosen in [[way] for way in ways] + [ways] * (len(ways) == 2):
        fit = regression.fit(disp=0, cov_type="cluster", cov_kwds={"groups": groups[:, chosen].squeeze()})
        covariances.append(center @ fit.cov_params() @ center.T)
    strengths = center @ regression.fit(disp=0).params
    order = np.argsort(-strengths, kind="stable")
    counts = [len((volunteers, photos)[way]) for way in ways]
    lacking = [name for way, name in enumerate(("volunteers", "photos")) if way not in ways]
    return BradleyTerry(
        [methods[index] for index in order],
        strengths[order],
        np.array([covariance[np.ix_(order, order)] for covariance in covariances]),
        float(t.ppf((1 + CONFIDENCE) / 2, min(counts) - 1)) if counts else math.nan,
        " and ".join(lacking),
    )


def strengths_table(fit: BradleyTerry) -> pd.DataFrame:
    """Each method's strength with its interval, strongest first."""
    rows = []
    for index, (method, strength) in enumerate(zip(fit.methods, fit.strengths, strict=True)):
        half = fit.quantile * fit.standard_error(np.eye(len(fit.methods))[index])
        rows.append((method, strength, strength - half, strength + half))
    return pd.DataFrame(rows, columns=["method", "strength", "from", "to"])


def neighbours_table(fit: BradleyTerry, votes: int) -> pd.DataFrame:
    """For methods next to each other: their difference with its interval, and how many more votes would settle it.

    The standard error of a difference falls as 1 / sqrt(votes), if volunteers and photos grow alike and the difference
    stays as it is. "more votes" is the number after which the interval just leaves 0, which is then as likely as not.
    "for 80%" is the number after which it leaves 0 in four studies of five.
    """
    rows = []
    for index in range(len(fit.methods) - 1):
        contrast = np.zeros(len(fit.methods))
        contrast[index], contrast[index + 1] = 1, -1
        difference, error = float(contrast @ fit.strengths), fit.standard_error(contrast)
        half = fit.quantile * error
        settled = difference > half
        more = []
        for needed in (fit.quantile, fit.quantile + float(norm.ppf(POWER))):
            if math.isnan(error):
                more.append("unknown")
            elif settled:
                more.append("0")
            elif difference < 1e-6:
                more.append("no number: no difference so far")
            else:
                more.append(str(max(1, math.ceil(votes * ((needed * error / difference) ** 2 - 1)))))
        odds = 1 / (1 + math.exp(-difference))
        pair = f"{fit.methods[index]} over {fit.methods[index + 1]}"
        interval = (difference - half, difference + half)
        rows.append((pair, odds, difference, *interval, "yes" if settled else "no", *more))
    columns = ["pair", "preferred", "difference", "from", "to", "settled", "more votes", f"for {POWER:.0%}"]
    return pd.DataFrame(rows, columns=columns)


def report(votes: Sequence[Vote], photos: Sequence[str]) -> str:
    """The report in Markdown."""
    volunteers = {vote.volunteer for vote in votes}
    per_photo = [sum(vote.photo == photo for vote in votes) for photo in photos]
    methods = sorted(votes[0].shown)
    table = scores(votes)
    table["first"] = table["first"].map("{:.0%}".format)
    amounts = f"{_amount(len(votes), 'vote')} of {_amount(len(volunteers), 'volunteer')}"
    parts = [
        f"{amounts} for {_amount(len(photos), 'photo')}, {min(per_photo)} to {max(per_photo)} for each",
        f"## Score\n\n{_points_of(len(methods))}.\n\n" + table.to_markdown(index=False, floatfmt=("", "", ".2f", "")),
    ]
    order = table["method"].to_list()
    wins = preferences(votes, order)
    shares = pd.DataFrame(wins / len(votes), order, order).map("{:.0%}".format)
    shares = shares.where(~np.eye(len(order), dtype=bool), "")
    parts.append("## Preferred to\n\nThe share of votes that rank the row above the column.\n\n" + shares.to_markdown())

    fit = fit_bradley_terry(votes)
    if isinstance(fit, str):
        parts.append(f"## Bradley-Terry\n\nNo fit: {fit}. More votes may give one.")
    else:
        few = [
            f"{count} {name}"
            for name, count in (("volunteers", len(volunteers)), ("photos", len(set(photos))))
            if 1 < count < FEW
        ]
        notes = [
            "Log-odds with mean 0, and their intervals of 95 % over volunteers and photos.",
            f"There is only one of {fit.left_out}: the intervals do not cover others." if fit.left_out else "",
            f"With only {' and '.join(few)}, intervals are rough." if few else "",
        ]
        parts.append(
            f"## Bradley-Terry\n\n{' '.join(filter(None, notes))}\n\n"
            + strengths_table(fit).to_markdown(index=False, floatfmt=".2f")
        )
        parts.append(
            "## What more votes would settle\n\nA pair is settled if the interval of its difference leaves 0. "
            '"more votes" takes the interval just there, which then happens as often as not. '
            f'"for {POWER:.0%}" takes it there in four studies of five. Both assume that the differences are as '
            "estimated, that the new votes are like these, and that volunteers and photos grow alike: more volunteers "
            "alone do not average out how photos differ. Each pair is taken by itself.\n\n"
            + neighbours_table(fit, len(votes)).to_markdown(index=False, floatfmt=".2f")
        )
    places = [sum(vote.ranking[0] == vote.shown[place] for vote in votes) / len(votes) for place in range(len(methods))]
    listed = ", ".join(f"{chr(ord('A') + place)} {share:.0%}" for place, share in enumerate(places))
    parts.append(
        f"## Place on the page\n\nThe picture ranked first stood at {listed}; without a preference for a place, "
        f"{1 / len(methods):.0%} each."
    )
    return "\n\n".join(parts) + "\n"


def _points_of(methods: int) -> str:
    return "Points: " + ", ".join(f"{worth} for rank {rank}" for rank, worth in enumerate(POINTS[:methods], 1))


def _amount(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
