"""Store of labels: one SQLite file of events that record which annotator gave which answer on which particle, and when.

Events are never changed. An answer is an event, and so is an undo; the current labels follow from all events (see
`tomosift.annotation.consensus`). When `Store.add_answer` or `Store.undo` returns, its events are on the disk. Several
annotators may write at the same time, from one program or several.
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

from tomosift.data.class_names import check_class_name
from tomosift.errors import FormatError

AnswerKind = Literal["label", "unsure", "junk", "skip"]
JUNK = "junk"
"""Class of false picks and unusable particles, in tables and for the classifier."""
MAX_CLASSES = 500
_FORMAT = 1
_LOCK_TIMEOUT_SECONDS = 30.0
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
    """One answer of an annotator on one particle, or the undo of one."""

    id: int
    """Ascending in the order of writing."""
    time: float
    """Seconds since 1970."""
    annotator: str
    request: str
    """Shared by the events of one action, which are undone together."""
    row: int
    """Row of the particle in the set."""
    kind: str
    """One of `AnswerKind`, or ``undo``."""
    class_name: str
    """Empty unless ``kind`` is ``label``."""
    guess: str
    """Class that the model predicted before this answer, from labels of other particles; empty without prediction."""
    undone: int | None
    """For ``undo``, the event that is undone."""

    @property
    def class_or_junk(self) -> str:
        """Class that the answer gives the particle, `JUNK` included; empty for unsure and skipped particles."""
        return JUNK if self.kind == "junk" else self.class_name


@dataclass(frozen=True)
class LabelClass:
    """A class of the palette."""

    name: str
    color: int
    created_by: str


class Store:
    """An open store. Threads may share it; every process opens the file itself.

    Parameters
    ----------
    path
        The SQLite file; created with its folder if it does not exist.
    digest
        Checksum of the set that is labeled; the store keeps it.
    particle_id
        (n,) identifiers of the particles of the set.

    Raises
    ------
    FormatError
        The file is no store, or the store of another set.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "labels.sqlite"
    >>> store = Store(path, "digest", np.array(["particle-1", "particle-2"], dtype=object))
    >>> store.add_class("ribosome", "ada")
    >>> store.add_answer("ada", "request-1", [0], "label", "ribosome")
    1
    >>> [event.class_name for event in store.read_events()]
    ['ribosome']
    >>> store.close()
    """

    def __init__(self, path: Path, digest: str, particle_id: NDArray[np.object_]) -> None:
        self.path, self._particle_id = path, particle_id
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        # Every write is its own transaction, begun by hand; the lock keeps threads from sharing one.
        self._connection = sqlite3.connect(
            path, timeout=_LOCK_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(digest)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise FormatError(
                path, "content", f"no store ({error})", "a store of labels", "choose another --store"
            ) from None
        except FormatError:
            self._connection.close()
            raise

    def _prepare(self, digest: str) -> None:
        """Create the tables where they are missing, and check format and set."""
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = full")
        with self._writing() as connection:
            for statement in _split_statements(_SCHEMA):
                connection.execute(statement)
            for name, value in (("format", str(_FORMAT)), ("particles", digest)):
                connection.execute("insert or ignore into about values (?, ?)", (name, value))
            about = dict(connection.execute("select name, value from about").fetchall())
        if about["format"] != str(_FORMAT):
            advice = "use the tomosift version that wrote it"
            raise FormatError(self.path, "format", about["format"], str(_FORMAT), advice)
        if about["particles"] != digest:
            advice = "choose another --store, or give the set that it belongs to"
            raise FormatError(self.path, "the set", about["particles"], f"{digest}, that of this set", advice)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that locks the file from its start; two that started by reading would deadlock."""
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    def add_answer(
        self,
        annotator: str,
        request: str,
        rows: Sequence[int],
        kind: AnswerKind,
        class_name: str = "",
        guess: str = "",
    ) -> int:
        """Write one answer on these particles and return the number of events written.

        A request that is repeated because its confirmation was lost writes nothing.

        Parameters
        ----------
        annotator
            Name of the person who answers.
        request
            Unique name of this action.
        rows
            Rows of the particles in the set.
        kind
            Kind of the answer; only ``label`` has a class.
        class_name
            Class of the palette.
        guess
            Class that the model predicted before the answer; empty without prediction.

        Raises
        ------
        ValueError
            A row is outside the set or occurs twice, or the class is not in the palette.
        """
        if (kind == "label") != bool(class_name):
            raise ValueError(
                f"kind is {kind!r} and the class {class_name!r}; a label needs a class, and no other answer has one"
            )
        if not rows or len(set(rows)) != len(rows) or min(rows) < 0 or max(rows) >= len(self._particle_id):
            raise ValueError(f"rows must be different and from 0 to {len(self._particle_id) - 1}; got {list(rows)[:5]}")
        now = time.time()
        with self._writing() as connection:
            if connection.execute("select 1 from events where request = ?", (request,)).fetchone():
                return 0
            if class_name and not connection.execute("select 1 from classes where name = ?", (class_name,)).fetchone():
                raise ValueError(f"there is no class {class_name!r}; add it first")
            connection.executemany(
                "insert into events (time, annotator, request, row, particle_id, kind, class_name, guess)"
                " values (?, ?, ?, ?, ?, ?, ?, ?)",
                [(now, annotator, request, row, str(self._particle_id[row]), kind, class_name, guess) for row in rows],
            )
        return len(rows)

    def undo(self, annotator: str, request: str) -> list[int]:
        """Undo the newest answer of an annotator that is not undone yet, and return its rows.

        A repeated request returns the same rows and undoes nothing else.
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
            undone = connection.execute(
                "select id, row, particle_id from events where request = ? order by id", last
            ).fetchall()
            connection.executemany(
                "insert into events (time, annotator, request, row, particle_id, kind, class_name, guess, undone)"
                " values (?, ?, ?, ?, ?, 'undo', '', '', ?)",
                [(now, annotator, request, row, name, number) for number, row, name in undone],
            )
        return [row for _, row, _ in undone]

    def add_class(self, name: str, created_by: str) -> None:
        """Add a class to the palette; an existing class stays as it is.

        Raises
        ------
        ValueError
            The name is not allowed, or is `JUNK`, which always exists; or there are too many classes.
        """
        check_class_name(name)
        if name == JUNK:
            raise ValueError(f"the class {JUNK} always exists; choose another name")
        with self._writing() as connection:
            (count,) = connection.execute("select count(*) from classes").fetchone()
            if count >= MAX_CLASSES:
                raise ValueError(f"there are {count} classes, expected {MAX_CLASSES} at most; use a class that exists")
            connection.execute(
                "insert or ignore into classes values (?, ?, ?, ?)", (name, count, created_by, time.time())
            )

    def read_classes(self) -> tuple[LabelClass, ...]:
        """Read the palette, in the order in which classes were added."""
        with self._lock:
            rows = self._connection.execute("select name, color, created_by from classes order by color").fetchall()
        return tuple(LabelClass(*row) for row in rows)

    def read_events(self, after: int = 0) -> list[Event]:
        """Read the events of all writers with a higher ``id`` than ``after``, in the order of writing."""
        with self._lock:
            rows = self._connection.execute(
                "select id, time, annotator, request, row, kind, class_name, guess, undone from events"
                " where id > ? order by id",
                (after,),
            ).fetchall()
        return [Event(*row) for row in rows]

    def close(self) -> None:
        """Close the file; the last program that closes it merges the journal into it."""
        with self._lock:
            self._connection.close()


def _split_statements(script: str) -> list[str]:
    """Split a script into statements; sqlite3 decides where one ends, as a trigger contains semicolons."""
    statements, statement = [], ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements
