"""Label particles in the browser: what to ask next is learned while you label."""

import getpass
import os
import secrets
import socket
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from tomosift.cli.inputs import read_labels, set_grids
from tomosift.cli.terminal import print_message
from tomosift.data.subtomograms import Subtomograms, open_subtomograms
from tomosift.methods import set_digest

if TYPE_CHECKING:
    pass

_STORE, _TOKEN, _EMBEDDINGS = "labels.sqlite", "token", "embeddings.npz"
_SECONDS_TO_END = 2


def command(
    subtomograms: Annotated[Path, tyro.conf.Positional],
    /,
    run: Path = Path("general"),
    port: int = 0,
    host: str = "127.0.0.1",
    annotator: str | None = None,
    store: Path | None = None,
    classes: tuple[str, ...] = (),
    labels: Path | None = None,
    browser: bool = True,
) -> None:
    """Show the boxes of a set one after the other and keep what you say of them; Ctrl+C ends it, nothing is lost.

    The page asks for particles that teach it most, and says how often it guessed right. Several people may label at
    once: on one page each, or with a command each on the same --store. What it exports is for `sort`, `train` and
    `identify`.

    Args:
        subtomograms: Folder of a set.
        run: Shipped model, or a run of yours, whose encoder is used to guess and to choose.
        port: Port to listen at; 0 takes a free one.
        host: Address to listen at. Others than this machine's own are reached by anybody who knows the address printed.
        annotator: Whose labels these are; by default your user name.
        store: File that keeps the labels, by default SET-labels/labels.sqlite beside the set.
        classes: Names of classes to start with; by default those of the set. More can be added on the page.
        labels: Particle table whose classes are taken over first.
        browser: Open the page in the browser.
    """
    boxes = open_subtomograms(subtomograms)
    if not len(boxes):
        raise ValueError(f"{boxes.path} is empty; extract particles first")
    if not 0 <= port <= 65535:
        raise ValueError(f"port is {port}, expected 0 to 65535")
    try:
        import uvicorn

        from tomosift.annotation.access import is_loopback
        from tomosift.annotation.server import create_app
    except ModuleNotFoundError as error:
        raise ValueError(
            f"labelling needs {error.name}, which is not installed; pip install 'tomosift[label]'"
        ) from None
    path = store or boxes.path.resolve().parent / f"{boxes.path.resolve().name}-labels" / _STORE
    with _listening(host, port) as listening:
        desk = _desk(boxes, run, path, annotator or _user(), classes, labels)
        token = _token(path.with_name(_TOKEN))
        config = uvicorn.Config(
            create_app(desk, token, host),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/#token={token}"
        if not is_loopback(host):
            print_message(f"warning: {host} is reached from other machines, unencrypted; an SSH tunnel is safer")
        print_message(f"labels are kept in {path}\nopen {address}\nCtrl+C ends it")
        if browser:
            webbrowser.open(address)
        desk.teacher.start()
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn has answered what was asked already, then passes the signal on
            pass
        finally:
            desk.teacher.stop()
            desk.store.close()
    print_message(f"{path}: labels are safe; the same command goes on with them")


def _desk(
    boxes: Subtomograms, model: Path, path: Path, annotator: str, classes: tuple[str, ...], labels: Path | None
) -> "Desk":
    from tomosift.annotation.background_learner import BackgroundLearner
    from tomosift.annotation.consensus import ConsensusTracker
    from tomosift.annotation.session import LabelingSession
    from tomosift.annotation.store import JUNK, Store
    from tomosift.annotation.tables import take_labels
    from tomosift.inference.classifier import model_digest

    model_digest(model)  # a missing model is better said before the page opens than on it
    given = read_labels(labels, None, None, set_grids(boxes)) if labels is not None else None
    digest = set_digest(boxes)
    store = Store(path, digest, boxes.particles.particle_id)
    for name in classes or boxes.class_names:
        if name != JUNK:
            store.add_class(name, annotator)
    if given is not None:
        print_message(f"{labels}: {take_labels(store, boxes, given, annotator)} labels taken over")
    votes = ConsensusTracker(store)
    teacher = BackgroundLearner(boxes, digest, votes, model, path.with_name(_EMBEDDINGS))
    return LabelingSession(boxes, store, votes, teacher, set_grids(boxes), annotator)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"cannot listen at {host} port {port} ({error}); choose another --port or --host") from None


def _token(path: Path) -> str:
    """The secret of this store, which its owner alone can read; a page that is open survives a restart by it."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(secrets.token_urlsafe(32))
    except FileExistsError:
        pass
    try:
        return path.read_text()
    except PermissionError:  # of somebody else who labels in the same store
        return secrets.token_urlsafe(32)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a number without a name, as in some containers
        return "me"
