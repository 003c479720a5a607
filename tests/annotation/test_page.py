"""A real browser labels particles, while the server is killed under it."""

import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tomosift.annotation.consensus import ConsensusTracker
from tomosift.annotation.store import Store
from tomosift.data.subtomograms import Subtomograms
from tomosift.methods import set_digest

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
MILLISECONDS = 100.0
SLACK = 4.0
"""A browser without a graphics card on a busy machine is now and then late with a frame, whatever the page does."""
MEASURE = """
() => {
  window.waits = [];
  let pressed = 0;
  document.addEventListener("keydown", (event) => { pressed = event.timeStamp; }, true);
  new MutationObserver(() => {
    const from = pressed;
    requestAnimationFrame(() => setTimeout(() => window.waits.push(performance.now() - from), 0));
  }).observe(document.getElementById("particle"), { attributes: true, attributeFilter: ["data-row"] });
}
"""


class Served:
    """The command as a process of its own, which can be killed and started again at the same port."""

    def __init__(self, boxes: Path, store: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._words = ["label", boxes, "--store", store, "--port", self.port, "--annotator", "ada", "--no-browser"]
        self.log: list[str] = []
        self.address = ""
        self.start()

    def start(self) -> None:
        code = "import sys; from tomosift.cli.main import main; main(sys.argv[1:])"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, self._words)],
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
        """What else it said until Ctrl+C ended it."""
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=20)[1]
        assert self.process.returncode == 0, said
        return said


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
def served(boxes: Subtomograms, tmp_path: Path) -> Iterator[Served]:
    server = Served(boxes.path, tmp_path / "labels.sqlite")
    yield server
    if server.process.poll() is None:
        server.kill()


def opened(browser: Any, served: Served, annotator: str = "ada") -> tuple[Any, list[str]]:
    """A page in a browser context of its own, and the errors that it meets."""
    page, faults = browser.new_context(viewport={"width": 1300, "height": 850}).new_page(), list[str]()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.set_default_timeout(20_000)
    page.goto(served.address)
    page.wait_for_selector("#particle[data-row]")
    if annotator != "ada":
        page.fill("#annotator", annotator)
        page.press("#annotator", "Tab")
    return page, faults


def until(page: Any, condition: str, seconds: float = 60) -> None:
    """Wait for a condition; the browser's own way to do so needs what the policy of the page forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"never came: {condition}"
        time.sleep(0.005)


def shown(page: Any) -> int:
    return int(page.get_attribute("#particle", "data-row"))


def press(page: Any, key: str) -> int:
    """Press a key that answers; the row that was answered."""
    row = shown(page)
    page.keyboard.press(key)
    until(page, f"document.getElementById('particle').dataset.row !== '{row}'")
    return row


def saved(page: Any) -> None:
    until(page, "document.getElementById('saved').textContent === 'all saved'")


def names(boxes: Subtomograms, path: Path) -> dict[int, dict[str, str]]:
    store = Store(path, set_digest(boxes), boxes.particles.particle_id)
    found = ConsensusTracker(store).answers().names
    store.close()
    return found


def test_a_person_labels_by_keyboard_and_nothing_is_lost_when_the_server_is_killed(
    browser: Any, served: Served, boxes: Subtomograms, tmp_path: Path
) -> None:
    page, faults = opened(browser, served)
    said: dict[int, str] = {}

    def answer(count: int) -> None:
        for _ in range(count):
            name = boxes.class_names[boxes.label[shown(page)]]
            said[press(page, str(boxes.class_names.index(name) + 1))] = name

    answer(15)
    saved(page)
    assert {row: votes["ada"] for row, votes in names(boxes, tmp_path / "labels.sqlite").items()} == said
    served.kill()
    answer(3)  # of those that were fetched before
    until(page, "/\\d not saved yet/.test(document.getElementById('saved').textContent)")
    served.start()
    answer(12)
    saved(page)
    assert len(said) == 30
    assert {row: votes["ada"] for row, votes in names(boxes, tmp_path / "labels.sqlite").items()} == said

    row = press(page, "j")
    page.keyboard.press("Control+z")
    until(page, f"document.getElementById('particle').dataset.row === '{row}'")
    press(page, "u")
    press(page, "s")
    page.keyboard.press("n")
    page.fill("#class-name", "proteasome")
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#palette button').length === 4")
    said[press(page, "4")] = "proteasome"
    saved(page)
    assert {row: votes["ada"] for row, votes in names(boxes, tmp_path / "labels.sqlite").items()} == said

    until(page, "document.getElementById('map-note').textContent.startsWith('Particles')")
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
    saved(page)
    together = names(boxes, tmp_path / "labels.sqlite")
    assert len(together) > 200
    page.keyboard.press("z")
    until(page, "document.getElementById('live').textContent.startsWith('Taken back')")
    saved(page)
    assert {row: votes["ada"] for row, votes in names(boxes, tmp_path / "labels.sqlite").items()} == said

    page.keyboard.press("f")
    page.click("#export")
    until(page, "/^31 labels are in .*labels.star/.test(document.getElementById('exported').textContent)")
    assert (tmp_path / "labels.star").exists()
    assert faults == []
    page.context.close()
    assert "labels are safe" in served.end()


def test_two_people_label_at_once(browser: Any, served: Served, boxes: Subtomograms, tmp_path: Path) -> None:
    (ada, faults), (bob, more) = opened(browser, served), opened(browser, served, "bob")
    said: dict[str, dict[int, str]] = {"ada": {}, "bob": {}}
    for _ in range(8):
        for page, who in ((ada, "ada"), (bob, "bob")):
            name = boxes.class_names[boxes.label[shown(page)]]
            said[who][press(page, str(boxes.class_names.index(name) + 1))] = name
    for page in (ada, bob):
        saved(page)
    found = names(boxes, tmp_path / "labels.sqlite")
    for who in said:
        assert {row: votes[who] for row, votes in found.items() if who in votes} == said[who]
    assert faults == more == []
    for page in (ada, bob):
        page.context.close()


def test_next_picture_follows_a_key_at_once(browser: Any, served: Served) -> None:
    page, _ = opened(browser, served)
    until(page, "document.getElementById('map-note').textContent.startsWith('Particles')")
    page.evaluate(MEASURE)
    for k in range(200):
        page.keyboard.press(str(k % 3 + 1) if k % 4 < 3 else "z")
        time.sleep(0.05)  # nobody is faster than that
    until(page, "window.waits.length >= 195")  # two pictures may fall into one frame
    waits = page.evaluate("window.waits")
    page.context.close()
    middle, p95 = statistics.median(waits), statistics.quantiles(waits, n=20)[-1]
    print(f"key to next picture: median {middle:.0f} ms, 95 % below {p95:.0f} ms")
    assert middle < MILLISECONDS
    assert p95 < SLACK * MILLISECONDS
