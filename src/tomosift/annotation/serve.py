"""Serve the labeling page of a set until the user stops it."""

import getpass
import os
import secrets
import socket
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from tomosift.annotation.background_learner import BackgroundLearner
from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.session import LabelingSession
from tomosift.annotation.store import JUNK, Store
from tomosift.annotation.tables import import_labels
from tomosift.data.labels import read_labels
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.model_files import model_digest
from tomosift.methods import set_digest
from tomosift.progress import Monitor

_STORE, _TOKEN, _EMBEDDINGS = "labels.sqlite", "token", "embeddings.npz"
_SHUTDOWN_SECONDS = 2
_SILENT = Monitor()


def serve(
    subtomograms: Subtomograms,
    model: Path = Path("general"),
    host: str = "127.0.0.1",
    port: int = 0,
    annotator: str | None = None,
    store: Path | None = None,
    classes: Sequence[str] = (),
    labels: Path | None = None,
    picks_spacing_angstrom: float | None = None,
    opens_browser: bool = True,
    monitor: Monitor = _SILENT,
) -> None:
    """Serve the labeling page of a set until Ctrl+C; all labels are in the store at any time.

    Parameters
    ----------
    subtomograms
        Set to label.
    model
        Run, model folder or name of a shipped model, whose encoder predicts classes and selects queries.
    host
        Address to listen at. Beyond loopback, everybody with the printed address can label.
    port
        Port to listen at; 0 selects a free one.
    annotator
        Default annotator of the page; by default the user name.
    store
        File of the labels; by default SET-labels/labels.sqlite beside the set.
    classes
        Initial classes; by default those of the set.
    labels
        Particle table whose classes are imported first.
    picks_spacing_angstrom
        Pixel size of that table in Angstrom, where it is in pixels and does not state it.
    opens_browser
        Whether to open the page in the browser.
    monitor
        Receives messages for the user: the address of the page, and where the labels are.

    Raises
    ------
    ValueError
        The set is empty, the port is not from 0 to 65535 or cannot be listened at, or a package is not installed.
    FormatError
        The model, the store or the table cannot be read.
    """
    if not len(subtomograms):
        raise ValueError(f"{subtomograms.path} is empty; extract particles first")
    if not 0 <= port <= 65535:
        raise ValueError(f"port is {port}, expected 0 to 65535")
    _require_packages()
    folder = subtomograms.path.resolve()
    path = store or folder.parent / f"{folder.name}-labels" / _STORE
    with _open_socket(host, port) as listener:
        annotator = annotator or _user_name()
        session = open_session(subtomograms, model, path, annotator, classes, labels, picks_spacing_angstrom, monitor)
        _serve_session(session, listener, host, opens_browser, monitor)
    monitor.message(f"{path}: labels are safe; the same command goes on with them")


def open_session(
    subtomograms: Subtomograms,
    model: Path,
    store: Path,
    annotator: str,
    classes: Sequence[str] = (),
    labels: Path | None = None,
    picks_spacing_angstrom: float | None = None,
    monitor: Monitor = _SILENT,
) -> LabelingSession:
    """Open the store of a set and build a session on it, whose learner is not started yet; see `serve`."""
    model_digest(model)  # a missing model is reported before the page opens
    table = None
    if labels is not None:
        table = read_labels(labels, None, picks_spacing_angstrom, subtomograms.grids, monitor.message)
    digest = set_digest(subtomograms)
    opened = Store(store, digest, subtomograms.particles.particle_id)
    for name in classes or subtomograms.class_names:
        if name != JUNK:
            opened.add_class(name, annotator)
    if table is not None:
        monitor.message(f"{labels}: {import_labels(opened, subtomograms, table, annotator)} labels taken over")
    tracker = ConsensusTracker(opened)
    learner = BackgroundLearner(subtomograms, digest, tracker, model, store.with_name(_EMBEDDINGS))
    return LabelingSession(subtomograms, opened, tracker, learner, subtomograms.grids, annotator)


def _serve_session(
    session: LabelingSession, listener: socket.socket, host: str, opens_browser: bool, monitor: Monitor
) -> None:
    """Run the server on an open socket until Ctrl+C, with the learner in the background."""
    import uvicorn

    from tomosift.annotation.access import is_loopback
    from tomosift.annotation.server import create_app

    token = _read_or_create_token(session.store.path.with_name(_TOKEN))
    config = uvicorn.Config(
        create_app(session, token, host),
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="off",
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    url_host = f"[{host}]" if ":" in host else host
    url = f"http://{url_host}:{listener.getsockname()[1]}/#token={token}"
    if not is_loopback(host):
        monitor.message(f"warning: {host} is reached from other machines, unencrypted; an SSH tunnel is safer")
    monitor.message(f"labels are kept in {session.store.path}\nopen {url}\nCtrl+C ends it")
    if opens_browser:
        webbrowser.open(url)
    session.learner.start()
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:  # uvicorn has finished the current requests, then passes the signal on
        pass
    finally:
        session.learner.stop()
        session.store.close()


def _require_packages() -> None:
    """Refuse to start without the packages of the optional dependency group ``label``."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(
            f"labeling needs {error.name}, which is not installed; pip install 'tomosift[label]'"
        ) from None


def _open_socket(host: str, port: int) -> socket.socket:
    """Listen at a host and port."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"cannot listen at {host} port {port} ({error}); choose another --port or --host") from None


def _read_or_create_token(path: Path) -> str:
    """Return the secret of a store, which only its owner can read; open pages survive a restart with it."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(32))
    except FileExistsError:
        pass
    try:
        return path.read_text()
    except PermissionError:  # the file of another user who labels in the same store
        return secrets.token_urlsafe(32)


def _user_name() -> str:
    """Return the name of the user."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in some containers
        return "me"
