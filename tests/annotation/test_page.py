"""A real browser labels particles, also while the server is killed."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.store import Store
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.methods import set_digest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


class Served:
    """The command in its own process, which can be killed and started again at the same port."""

    def __init__(self, subtomograms: Path, store: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._arguments = [
            "label",
            subtomograms,
            "--store",
            store,
            "--port",
            self.port,
            "--annotator",
            "ada",
            "--no-browser",
        ]
        self.log: list[str] = []
        self.address = ""
        self.start()

    def start(self) -> None:
        code = "import sys; from tomosift.cli.main import main; main(sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, self._arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stderr is not None
        while not self.log or not self.log[-1].startswith("Ctrl+C"):
            line = self.process.stderr.readline()
            assert line, "".join(self.log)
            self.log.append(line)
        self.address = next(line.split()[1] for line in reversed(self.log) if line.startswith("open "))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> str:
        """End it by Ctrl+C and return the rest of its messages."""
        self.process.send_signal(signal.SIGINT)
        messages = self.process.communicate(timeout=240)[1]
        assert self.process.returncode == 0, messages
        return messages


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def served(subtomograms: Subtomograms, tmp_path: Path) -> Iterator[Served]:
    server = Served(subtomograms.path, tmp_path / "labels.sqlite")
    yield server
    if server.process.poll() is None:
        server.kill()


def open_page(browser: Any, served: Served, annotator: str = "ada") -> tuple[Any, list[str]]:
    """Open a page in a new browser context; return it and the list of its errors."""
    page, faults = browser.new_context(viewport={"width": 1300, "height": 850}).new_page(), list[str]()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(240_000)
    page.goto(served.address)
    page.wait_for_selector("#particle[data-row]")
    if annotator != "ada":
        page.fill("#annotator", annotator)
        page.press("#annotator", "Tab")
    return page, faults


def until(page: Any, condition: str, seconds: float = 240) -> None:
    """Wait for a condition; the function of the browser for this violates the security policy of the page."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never true: {condition}"
        time.sleep(0.005)


def shown_row(page: Any) -> int:
    """Return the row of the displayed particle."""
    return int(page.get_attribute("#particle", "data-row"))


def press(page: Any, key: str) -> int:
    """Press a key that answers, and return the answered row."""
    row = shown_row(page)
    page.keyboard.press(key)
    until(page, f"document.getElementById('particle').dataset.row !== '{row}'")
    return row


def wait_until_saved(page: Any) -> None:
    """Wait until all answers are confirmed."""
    until(page, "document.getElementById('saved').textContent === 'all saved'")


def read_annotations(subtomograms: Subtomograms, path: Path) -> dict[int, dict[str, str]]:
    store = Store(path, set_digest(subtomograms), subtomograms.particles.particle_id)
    annotations = ConsensusTracker(store).update().annotations
    store.close()
    return annotations


def test_a_person_labels_by_keyboard_and_nothing_is_lost_when_the_server_is_killed(
    browser: Any, served: Served, subtomograms: Subtomograms, tmp_path: Path
) -> None:
    page, faults = open_page(browser, served)
    answers: dict[int, str] = {}

    def answer(count: int) -> None:
        for _ in range(count):
            name = subtomograms.class_names[subtomograms.label[shown_row(page)]]
            answers[press(page, str(subtomograms.class_names.index(name) + 1))] = name

    answer(15)
    wait_until_saved(page)
    assert {
        row: classes["ada"] for row, classes in read_annotations(subtomograms, tmp_path / "labels.sqlite").items()
    } == answers
    served.kill()
    answer(3)  # of those that were fetched before
    until(page, "/\\d not saved yet/.test(document.getElementById('saved').textContent)")
    served.start()
    answer(12)
    wait_until_saved(page)
    assert len(answers) == 30
    assert {
        row: classes["ada"] for row, classes in read_annotations(subtomograms, tmp_path / "labels.sqlite").items()
    } == answers

    row = press(page, "j")
    page.keyboard.press("Control+z")
    until(page, f"document.getElementById('particle').dataset.row === '{row}'")
    press(page, "u")
    press(page, "s")
    page.keyboard.press("n")
    page.fill("#class-name", "proteasome")
    page.keyboard.press("Enter")
    # The palette may be updated by a poll before the dialog closes, which takes keys as long as it is open.
    until(page, "document.querySelectorAll('#palette button').length === 4 && !document.querySelector('dialog[open]')")
    answers[press(page, "4")] = "proteasome"
    wait_until_saved(page)
    assert {
        row: classes["ada"] for row, classes in read_annotations(subtomograms, tmp_path / "labels.sqlite").items()
    } == answers

    until(page, "document.getElementById('map-note').textContent.startsWith('Similar particles')")
    frame = page.locator("#map").bounding_box()
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    page.mouse.move(frame["x"] + 0.01 * frame["width"], frame["y"] + 0.01 * frame["height"])
    page.mouse.down()
    for across, down in corners[1:]:
        page.mouse.move(frame["x"] + across * frame["width"], frame["y"] + down * frame["height"], steps=4)
    page.mouse.up()
    page.wait_for_selector("#lasso-dialog[open]")
    assert re.fullmatch(r"Label \d+ particles at once", page.inner_text("#lasso-title"))
    page.keyboard.press("2")
    wait_until_saved(page)
    annotations = read_annotations(subtomograms, tmp_path / "labels.sqlite")
    assert len(annotations) > 200
    page.keyboard.press("z")
    until(page, "document.getElementById('live').textContent.startsWith('Undone')")
    wait_until_saved(page)
    assert {
        row: classes["ada"] for row, classes in read_annotations(subtomograms, tmp_path / "labels.sqlite").items()
    } == answers

    page.keyboard.press("f")
    page.click("#export")
    until(page, "/^31 labels are in .*labels.star/.test(document.getElementById('exported').textContent)")
    assert (tmp_path / "labels.star").exists()
    assert faults == []
    page.context.close()
    assert "labels are safe" in served.end()


def test_two_annotators_label_at_once(browser: Any, served: Served, subtomograms: Subtomograms, tmp_path: Path) -> None:
    (ada, faults), (bob, more) = open_page(browser, served), open_page(browser, served, "bob")
    answers: dict[str, dict[int, str]] = {"ada": {}, "bob": {}}
    for _ in range(8):
        for page, annotator in ((ada, "ada"), (bob, "bob")):
            name = subtomograms.class_names[subtomograms.label[shown_row(page)]]
            answers[annotator][press(page, str(subtomograms.class_names.index(name) + 1))] = name
    for page in (ada, bob):
        wait_until_saved(page)
    annotations = read_annotations(subtomograms, tmp_path / "labels.sqlite")
    for annotator, expected in answers.items():
        assert {row: of[annotator] for row, of in annotations.items() if annotator in of} == expected
    assert faults == more == []
    for page in (ada, bob):
        page.context.close()


def test_every_key_shows_another_particle(browser: Any, served: Served) -> None:
    page, faults = open_page(browser, served)
    until(page, "document.getElementById('map-note').textContent.startsWith('Similar particles')")
    for k in range(40):
        press(page, str(k % 3 + 1) if k % 4 < 3 else "z")
    wait_until_saved(page)
    assert faults == []
    page.context.close()
