"""The store of labels: one SQLite file that says who answered what about which particle, and when.

Nothing in it is ever changed. An answer is an event, and so is taking one back; what holds now follows from all of them
(see `tomosift.annotation.consensus`). What `answer` or `undo` has returned from is on the disk. Several people may write at
once, from one program or several.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tomosift.data.labels import check_class_name
from tomosift.errors import FormatError

AnswerKind = Literal["label", "unsure", "junk", "skip"]
JUNK = "junk"
"""Class of what is no particle, or too poor a one, in tables and for the classifier."""
MOST_CLASSES = 500
_FORMAT = 1
_SECONDS_TO_WAIT = 30.0
"""How long a writer waits for another one."""
_SCHEMA = """
create table if not exists about (name text primary key, value text not null);
create table if not exists classes (
    name text primary key, color integer not null, created_by text not null, time real not null
);
create table if not exists events (
    id integer primary key autoincrement,
    time real not null,
    annotator text not null,
    request text not null,
    row integer not null,
    particle_id text not null,
    kind text not null check (kind in ('label', 'unsure', 'junk', 'skip', 'undo')),
    class_name text not null,
    guess text not null,
    undone integer references events (id),
    unique (request, row)
);
create trigger if not exists events_stay before update on events begin select raise(abort, 'events stay'); end;
create trigger if not exists events_last before delete on events begin select raise(abort, 'events stay'); end;
"""


@dataclass(frozen=True)
class Event:
    """What one person said of one particle."""

    id: int
    """Counts up in the order of writing."""
    time: float
    """Seconds since 1970."""
    annotator: str
    request: str
    """Groups what was said in one go, and is taken back in one go."""
    row: int
    """Of the particle in the set."""
    kind: str
    """One of `AnswerKind`, or ``undo``."""
    class_name: str
    """Empty unless ``kind`` is ``label``."""
    guess: str
    """Class that the model guessed before this answer, from labels of other particles; empty if it had no guess."""
    undone: int | None
    """For ``undo``, the event that is taken back."""


@dataclass(frozen=True)
class LabelClass:
    """A class of the palette."""

    name: str
    color: int
    created_by: str


class Store:
    """An open store. Threads may share it; processes open the file each for themselves.

    Parameters
    ----------
    path
        The SQLite file; made if absent, with its folder.
    digest
        Which particles the labels are of; a store remembers it.
    particle_id
        (n,) names of these particles.

    Raises
    ------
    FormatError
        The file is no store, or one of other particles.
    """

    def __init__(self, path: Path, digest: str, particle_id: NDArray[np.object_]) -> None:
        self.path, self._particle_id = path, particle_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        # Every write is its own transaction, begun by hand; the lock keeps threads from sharing one.
        self._connection = sqlite3.connect(
            path, timeout=_SECONDS_TO_WAIT, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(digest)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise FormatError(path, "content", f"no store ({error})", "labels", "choose another --store") from None
        except FormatError:
            self._connection.close()
            raise

    def _prepare(self, digest: str) -> None:
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        with self._writing() as connection:
            for statement in _statements(_SCHEMA):
                connection.execute(statement)
            for name, value in (("format", str(_FORMAT)), ("particles", digest)):
                connection.execute("insert or ignore into about values (?, ?)", (name, value))
            about = dict(connection.execute("select name, value from about").fetchall())
        if about["format"] != str(_FORMAT):
            advice = "use the tomosift version that wrote it"
            raise FormatError(self.path, "format", about["format"], str(_FORMAT), advice)
        if about["particles"] != digest:
            advice = "choose another --store, or name the set that it belongs to"
            raise FormatError(self.path, "the set", f"{about['particles']}", f"{digest}, that of this set", advice)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the file from its start: two that only read first would lock one another out."""
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    def answer(
        self,
        annotator: str,
        request: str,
        rows: Sequence[int],
        kind: AnswerKind,
        class_name: str = "",
        guess: str = "",
    ) -> int:
        """Write one answer about these particles; the number of events written.

        A request that was written before, and is sent again because its confirmation was lost, writes nothing.

        Raises
        ------
        ValueError
            A row is outside the set or comes twice, or the class is not in the palette.
        """
        if (kind == "label") != bool(class_name):
            raise ValueError("a label needs a class, and no other answer has one")
        if not rows or len(set(rows)) != len(rows) or min(rows) < 0 or max(rows) >= len(self._particle_id):
            raise ValueError(f"rows must be different and from 0 to {len(self._particle_id) - 1}; got {list(rows)[:5]}")
        now = time.time()
        with self._writing() as connection:
            if connection.execute("select 1 from events where request = ?", (request,)).fetchone():
                return 0
            if class_name and not connection.execute("select 1 from classes where name = ?", (class_name,)).fetchone():
                raise ValueError(f"there is no class {class_name!r}; make it first")
            connection.executemany(
                "insert into events (time, annotator, request, row, particle_id, kind, class_name, guess)"
                " values (?, ?, ?, ?, ?, ?, ?, ?)",
                [(now, annotator, request, row, str(self._particle_id[row]), kind, class_name, guess) for row in rows],
            )
        return len(rows)

    def undo(self, annotator: str, request: str) -> list[int]:
        """Take back what this person said last and has not taken back; the rows that this was about, often one.

        A request that was written before gives the same rows again and takes nothing else back.
        """
        now = time.time()
        with self._writing() as connection:
            written = connection.execute("select row from events where request = ? order by id", (request,)).fetchall()
            if written:
                return [row for (row,) in written]
            last = connection.execute(
                "select request from events where annotator = ? and kind != 'undo'"
                " and id not in (select undone from events where undone is not null) order by id desc limit 1",
                (annotator,),
            ).fetchone()
            if last is None:
                return []
            taken = connection.execute(
                "select id, row, particle_id from events where request = ? order by id", last
            ).fetchall()
            connection.executemany(
                "insert into events (time, annotator, request, row, particle_id, kind, class_name, guess, undone)"
                " values (?, ?, ?, ?, ?, 'undo', '', '', ?)",
                [(now, annotator, request, row, name, number) for number, row, name in taken],
            )
        return [row for _, row, _ in taken]

    def add_class(self, name: str, created_by: str) -> None:
        """Add a class to the palette; one that is there stays as it is.

        Raises
        ------
        ValueError
            The name can be none, or is `JUNK`, which is always there; or there are too many classes.
        """
        check_class_name(name)
        if name == JUNK:
            raise ValueError(f"{JUNK} is always there and needs no class of its own")
        with self._writing() as connection:
            (count,) = connection.execute("select count(*) from classes").fetchone()
            if count >= MOST_CLASSES:
                raise ValueError(f"there are {count} classes, which is the most a store takes")
            connection.execute(
                "insert or ignore into classes values (?, ?, ?, ?)", (name, count, created_by, time.time())
            )

    def classes(self) -> tuple[LabelClass, ...]:
        """The palette, in the order in which classes were added."""
        with self._lock:
            rows = self._connection.execute("select name, color, created_by from classes order by color").fetchall()
        return tuple(LabelClass(*row) for row in rows)

    def events(self, after: int = 0) -> list[Event]:
        """Events with a higher number, of all writers, in the order of writing."""
        with self._lock:
            rows = self._connection.execute(
                "select id, time, annotator, request, row, kind, class_name, guess, undone from events"
                " where id > ? order by id",
                (after,),
            ).fetchall()
        return [Event(*row) for row in rows]

    def close(self) -> None:
        """Close the file; the last one to do so folds the journal into it."""
        with self._lock:
            self._connection.close()


def _statements(script: str) -> list[str]:
    """The statements of a script; a trigger holds a semicolon of its own, so lines decide."""
    found, begun = [], ""
    for line in script.splitlines():
        begun += line + "\n"
        if sqlite3.complete_statement(begun):
            found.append(begun)
            begun = ""
    return found
