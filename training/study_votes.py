"""The votes of a user study, in an SQLite file.

One transaction saves one vote, and returns only when the vote is on the disk. The file uses SQLite's rollback journal
and not its write-ahead log: while nobody votes, the file alone holds every vote, so that a copy of it is complete.
"""

import contextlib
import hashlib
import json
import random
import secrets
import sqlite3
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from aict_hf.errors import InputError

APPLICATION_ID = 0x41494354  # in the file's header: tells these files from other SQLite files
MAX_NAME = 40  # characters of a volunteer's name
SCHEMA = """
CREATE TABLE study (
    token TEXT NOT NULL,                     -- names the study in the browsers of its volunteers
    seed INTEGER NOT NULL
);
CREATE TABLE photos (photo TEXT PRIMARY KEY, sha256 TEXT NOT NULL);
CREATE TABLE results (
    photo TEXT NOT NULL REFERENCES photos,
    method TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (photo, method)
);
CREATE TABLE shown (
    ticket TEXT PRIMARY KEY,                 -- random: all that the page knows about what it shows
    volunteer TEXT NOT NULL,
    photo TEXT NOT NULL REFERENCES photos,
    methods TEXT NOT NULL,                   -- JSON list, in the order shown
    shown_at TEXT NOT NULL,
    UNIQUE (volunteer, photo)
);
CREATE TABLE votes (
    volunteer TEXT NOT NULL,
    photo TEXT NOT NULL,
    ranking TEXT NOT NULL,                   -- JSON list of methods, best first
    voted_at TEXT NOT NULL,
    UNIQUE (volunteer, photo),
    FOREIGN KEY (volunteer, photo) REFERENCES shown (volunteer, photo)
);
"""


@dataclass(frozen=True)
class StudyPhoto:
    """A composite of the study, and the result of each method for it.

    Attributes:
        name: the composite's path in its folder, with slashes.
        composite, mask: the files.
        results: the file of each method.
    """

    name: str
    composite: Path
    mask: Path
    results: Mapping[str, Path]


@dataclass(frozen=True)
class Shown:
    """What a volunteer sees.

    Attributes:
        ticket: random name of this showing.
        photo: name of the photo.
        methods: the methods in the order shown.
    """

    ticket: str
    photo: str
    methods: list[str]


@dataclass(frozen=True)
class Vote:
    """One ranking.

    Attributes:
        volunteer, photo: who ranked what.
        ranking: the methods, best first.
        shown: the methods in the order shown.
    """

    volunteer: str
    photo: str
    ranking: list[str]
    shown: list[str]


@contextlib.contextmanager
def transaction(path: Path, *, read: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection whose changes are all on the disk after the block, or none of them after an error or a crash.

    Args:
        path: the file.
        read: the block changes nothing, so that the file need not be writable.

    Raises:
        InputError: if the file cannot be opened or is no SQLite file.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = EXTRA")  # the removal of the journal is on the disk too
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("BEGIN" if read else "BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
    except sqlite3.Error as error:
        raise InputError(f"{path}: cannot be used as a file of votes ({error})") from error


class VoteFile:
    """A file of votes that exists. Every method opens the file anew, so that threads and processes can share it.

    Args:
        path: the file.
    Raises:
        InputError: if there is no such file, or it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file; give the file that `user_study.py serve --votes` wrote")
        with transaction(self.path, read=True) as database:
            [found] = database.execute("PRAGMA application_id").fetchone()
            if found != APPLICATION_ID:
                raise InputError(f"{path}: is not a file of votes; give the file that `user_study.py serve` wrote")
            self.token, self.seed = database.execute("SELECT token, seed FROM study").fetchone()
            rows = database.execute("SELECT DISTINCT method FROM results ORDER BY method")
            self.methods: list[str] = [method for (method,) in rows]

    def next_photo(self, volunteer: str, *, limit: int | None = None) -> Shown | None:
        """What a volunteer is to rank next, or None after all photos or `limit` of them.

        It is what the volunteer sees already, if that has no vote yet. Else it is one of the photos with the fewest
        votes, and among these with the fewest showings, so that the photos get equal numbers of votes. The study's
        seed, the volunteer and the photo decide the rest, and the order of the methods.
        """
        with transaction(self.path) as database:
            unranked = "SELECT ticket, photo, methods FROM shown WHERE volunteer = ? AND photo NOT IN "
            unranked += "(SELECT photo FROM votes WHERE volunteer = ?)"
            found = database.execute(unranked, (volunteer, volunteer)).fetchone()
            if found is not None:
                return Shown(found[0], found[1], json.loads(found[2]))
            seen = {photo for (photo,) in database.execute("SELECT photo FROM shown WHERE volunteer = ?", (volunteer,))}
            counts = database.execute(
                "SELECT (SELECT count(*) FROM votes WHERE votes.photo = photos.photo),"
                " (SELECT count(*) FROM shown WHERE shown.photo = photos.photo), photo FROM photos"
            )
            keys = [
                (votes, showings, self._random("photo", volunteer, photo).random(), photo)
                for votes, showings, photo in counts
                if photo not in seen
            ]
            if not keys or (limit is not None and len(seen) >= limit):
                return None
            photo = min(keys)[-1]
            methods = list(self.methods)
            self._random("methods", volunteer, photo).shuffle(methods)
            ticket = secrets.token_urlsafe(12)
            row = (ticket, volunteer, photo, json.dumps(methods), _now())
            database.execute("INSERT INTO shown VALUES (?, ?, ?, ?, ?)", row)
            return Shown(ticket, photo, methods)

    def save_vote(self, ticket: str, positions: Sequence[int]) -> tuple[str, bool]:
        """Save the vote for what was shown.

        Args:
            ticket: names what was shown.
            positions: the places of the methods in the order shown, counted from 0, best first.
        Returns:
            the volunteer, and whether the vote is new. A second vote of a volunteer for a photo changes nothing.
        Raises:
            InputError: if the ticket is unknown or the positions are not a ranking.
        """
        with transaction(self.path) as database:
            query = "SELECT volunteer, photo, methods FROM shown WHERE ticket = ?"
            found = database.execute(query, (ticket,)).fetchone()
            if found is None:
                raise InputError("this photo was not shown by this study; load the page again")
            volunteer, photo, methods = found[0], found[1], json.loads(found[2])
            if sorted(positions) != list(range(len(methods))):
                raise InputError(f"the ranking is {list(positions)}; expected each of {len(methods)} pictures once")
            row = (volunteer, photo, json.dumps([methods[position] for position in positions]), _now())
            saved = database.execute("INSERT INTO votes VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
            return volunteer, saved.rowcount == 1

    def count(self, volunteer: str) -> int:
        """The number of a volunteer's votes."""
        with transaction(self.path, read=True) as database:
            [votes] = database.execute("SELECT count(*) FROM votes WHERE volunteer = ?", (volunteer,)).fetchone()
        return int(votes)

    def photos(self) -> list[str]:
        """The names of the photos."""
        with transaction(self.path, read=True) as database:
            return [photo for (photo,) in database.execute("SELECT photo FROM photos ORDER BY photo")]

    def votes(self) -> list[Vote]:
        """All votes, in the order of time."""
        with transaction(self.path, read=True) as database:
            query = "SELECT volunteer, photo, ranking, methods FROM votes JOIN shown USING (volunteer, photo)"
            rows = database.execute(query + " ORDER BY votes.rowid").fetchall()
        return [
            Vote(volunteer, photo, json.loads(ranking), json.loads(shown)) for volunteer, photo, ranking, shown in rows
        ]

    def _random(self, what: str, volunteer: str, photo: str) -> random.Random:
        # One stream for each draw: photos that come first have low numbers, which must not decide their methods' order.
        return random.Random(f"{self.seed}/{what}/{volunteer}/{photo}")


def open_votes(path: Path, photos: Sequence[StudyPhoto], *, seed: int = 0) -> VoteFile:
    """Open the votes of a study to go on with it, or start the file.

    Args:
        path: the file.
        photos: the photos of the study.
        seed: decides the orders in which volunteers see photos and methods.
    Raises:
        InputError: if the file holds votes for other photos, methods or results, or another seed; or cannot be written.
    """
    composites = {photo.name: _digest(photo.composite) for photo in photos}
    results = {(photo.name, method): _digest(file) for photo in photos for method, file in photo.results.items()}
    with transaction(path) as database:
        if database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):  # the file is new
            for statement in SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute("INSERT INTO study VALUES (?, ?)", (secrets.token_hex(8), seed))
            database.executemany("INSERT INTO photos VALUES (?, ?)", composites.items())
            rows = [(name, method, digest) for (name, method), digest in results.items()]
            database.executemany("INSERT INTO results VALUES (?, ?, ?)", rows)
    file = VoteFile(path)
    with transaction(path, read=True) as database:
        had = dict(database.execute("SELECT photo, sha256 FROM photos"))
        had_results = {(photo, method): digest for photo, method, digest in database.execute("SELECT * FROM results")}
    advice = f"go on with what {path} was started with, or give another file to --votes"
    for what, now, before in (
        ("methods", {method for _, method in results}, set(file.methods)),
        ("photos", set(composites), set(had)),
        ("seeds", {str(seed)}, {str(file.seed)}),
    ):
        if now != before:
            only = [
                f"{_some(names)} {where}" for names, where in ((now - before, "now"), (before - now, "then")) if names
            ]
            raise InputError(f"{path}: is of a study with other {what} (only {', only '.join(only)}); {advice}")
    for photo in photos:
        if composites[photo.name] != had[photo.name]:
            raise InputError(f"{photo.composite}: is another picture than before; {advice}")
        for method, result in photo.results.items():
            if results[photo.name, method] != had_results[photo.name, method]:
                raise InputError(f"{result}: is another picture than before; {advice}")
    return file


def volunteer_name(given: str) -> str:
    """The name that a volunteer's votes are kept under: the nickname in lower case, or a random name if it is empty.

    Examples:
        >>> volunteer_name("  Ada   L ")
        'ada l'
    Raises:
        InputError: if the nickname is too long.
    """
    name = " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", given).casefold()).split())
    if len(name) > MAX_NAME:
        raise InputError(f"the nickname has {len(name)} letters; choose one of at most {MAX_NAME}")
    return name or f"guest-{secrets.token_hex(4)}"


def _some(names: set[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
