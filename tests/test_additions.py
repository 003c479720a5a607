"""Each addition costs what CONTRIBUTING.md says: a dummy is added to a copy of the package and used there."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tomosift"
COUNTS = {"One": 1, "Two": 2, "Three": 3}

pytestmark = pytest.mark.slow  # each starts new processes that import torch


def read_python_files(folder: Path) -> dict[str, bytes]:
    """Content of every Python file by its name in a folder, in order."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.py"))}


@dataclass(frozen=True)
class PackageCopy:
    """A copy of the package that a test adds files to."""

    folder: Path
    originals: dict[str, bytes]
    """Content of each Python file, by its name in the package."""

    @classmethod
    def create(cls, folder: Path) -> "PackageCopy":
        """Copy the package into a folder."""
        shutil.copytree(SOURCE, folder / "tomosift", ignore=shutil.ignore_patterns("__pycache__"))
        return cls(folder, read_python_files(folder / "tomosift"))

    def write(self, name: str, text: str) -> None:
        """Write a new file of the package."""
        path = self.folder / "tomosift" / name
        assert path.parent.is_dir()
        assert not path.exists()
        path.write_text(text)

    def insert_line(self, name: str, after: str, line: str) -> None:
        """Insert a line into a file after the one that starts with ``after``."""
        path = self.folder / "tomosift" / name
        lines = path.read_text().splitlines(keepends=True)
        at = next(number for number, text in enumerate(lines) if text.startswith(after))
        path.write_text("".join([*lines[: at + 1], line + "\n", *lines[at + 1 :]]))

    def changed_files(self) -> list[str]:
        """Names of the Python files that are new or differ from the original."""
        files = read_python_files(self.folder / "tomosift")
        return [name for name, content in files.items() if self.originals.get(name) != content]

    def run(self, code: str) -> str:
        """Run Python code on the copy, in its folder, and return what it prints."""
        check = f"import tomosift; assert tomosift.__file__.startswith({str(self.folder)!r}), tomosift.__file__\n"
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.run(
            [sys.executable, "-c", check + code],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout


@pytest.fixture
def package(tmp_path: Path) -> PackageCopy:
    return PackageCopy.create(tmp_path / "copy")


def documented_count(addition: str) -> int:
    """The number of files with which the section of CONTRIBUTING.md on an addition begins."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"\n## Adding {addition}\n")[2]
    number = re.match(r"\s*(\w+) files?\b", text)
    assert number, f"the section on adding {addition} does not begin with a number of files"
    return COUNTS[number[1]]


METHOD = '''"""Cross-entropy on the labels of a set; a test of how a method is added.

Source: none.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.batches import Batch, BalancedStream
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.methods import TrainingInput
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.train.loop import Training, fit

INPUT = TrainingInput("set", "Folder of a set with classes.")
USES_LABELS = True
SHARES_BATCHES = False


@dataclass(frozen=True)
class Config:
    """Settings of the dummy."""

    training: Training = field(default_factory=lambda: Training(steps=3, batch_size=4))
    """Number of steps and learning rate."""


class Learner(nn.Module):
    """Cross-entropy of a linear head."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        logits = self.classifier.logits(self.classifier.encoder(batch.volume))
        return {"loss": functional.cross_entropy(logits, batch.label)}


def train(config, data: TrainingSets, run, seed, progress=None) -> Classifier:
    """Train a classifier from random weights."""
    card = ModelCard("radial", data.voxel_spacing_angstrom, data.box_size, class_names=data.class_names)
    classifier = Classifier(Embedder(build_encoder("radial"), Recentering()), card)
    stream = BalancedStream(data.labeled, config.training.batch_size, seed)
    fit(Learner(classifier), stream, config.training, run, seed, progress=progress)
    return classifier.eval()
'''

USE_OF_METHOD = """
from pathlib import Path
import numpy as np
from tomosift.cli.main import main
from tomosift.data.set_writer import SubtomogramWriter
from tomosift.inference.model_files import load_classifier
from tomosift.particles import Particles
particles = Particles.create(["TS_01"] * 8, np.zeros((8, 3)), class_name=["groel", "apoferritin"] * 4)
writer = SubtomogramWriter("set", box_size=16, voxel_spacing_angstrom=10.0)
volume = np.random.default_rng(0).normal(size=(8, 16, 16, 16)).astype(np.float32)
writer.append(volume, particles, np.tile(np.float32([-60, 60]), (8, 1)))
writer.close()
main(["train", "dummy", "set", "--out", "run", "--training.steps", "2"])
assert load_classifier(Path("run/result")).card.class_names == ("apoferritin", "groel")
main(["train", "--help"])
"""
METHOD_SENTENCE = "Train a dummy."


def test_method_is_one_file_and_a_line_in_the_table(package: PackageCopy) -> None:
    package.write("methods/dummy.py", METHOD)
    package.insert_line("methods/__init__.py", "METHODS", f'    "dummy": "{METHOD_SENTENCE}",')
    assert METHOD_SENTENCE in package.run(USE_OF_METHOD)
    assert package.changed_files() == ["methods/__init__.py", "methods/dummy.py"]
    assert documented_count("a method") == 2


ENCODER = '''"""The mean of eight parts of the box; a test of how an encoder is added."""

from torch import Tensor, nn
from torch.nn import functional

from tomosift.models.encoder import Encoder


class Dummy(Encoder):
    """Means over octants and a linear layer."""

    embedding_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, self.embedding_size)

    def embed(self, volume: Tensor) -> Tensor:
        return self.linear(functional.adaptive_avg_pool3d(volume, 2).flatten(1))


ENCODER = Dummy
'''

USE_OF_ENCODER = """
from pathlib import Path
import torch
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import load_classifier, save_classifier
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import ENCODERS, build_encoder
from tomosift.models.recentering import Recentering
encoder = build_encoder("dummy").eval()
assert ENCODERS["dummy"] == "The mean of eight parts of the box; a test of how an encoder is added."
boxes = torch.randn(3, 16, 16, 16)
assert encoder(boxes).shape == (3, 4)
save_classifier(Path("model"), Classifier(Embedder(encoder, Recentering()), ModelCard("dummy", 10.0, 16)))
assert torch.equal(load_classifier(Path("model")).encoder(boxes), encoder(boxes))
"""


def test_encoder_is_one_file(package: PackageCopy) -> None:
    package.write("models/encoders/dummy.py", ENCODER)
    package.run(USE_OF_ENCODER)
    assert package.changed_files() == ["models/encoders/dummy.py"]
    assert documented_count("an encoder") == 1


FORMAT = '''"""Lines of tomogram, z, y and x in Angstrom; a test of how a format is added."""

import numpy as np

from tomosift.io.particles.registry import Format
from tomosift.particles import Particles

FORMAT = Format("Lines of tomogram, z, y and x (.dummy).", (".dummy",))


def read_particles(path, *, voxel_spacing_angstrom=None, grids=None):
    rows = [line.split() for line in path.read_text().splitlines()]
    return Particles.create([row[0] for row in rows], np.array([row[1:] for row in rows], dtype=float), source="dummy")


def write_particles(path, particles, *, voxel_spacing_angstrom=None, grids=None):
    rows = zip(particles.tomogram, particles.position_zyx_angstrom, strict=True)
    path.write_text("".join(f"{name} {z} {y} {x}\\n" for name, (z, y, x) in rows))
'''

USE_OF_FORMAT = """
import numpy as np
from tomosift.cli.main import main
from tomosift.io.particles import FORMATS, read_particles, write_particles
from tomosift.particles import Particles
assert FORMATS["dummy"] == "Lines of tomogram, z, y and x (.dummy)."
picks = Particles.create(["a", "b"], np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
write_particles("picks.dummy", picks)
read = read_particles("picks.dummy")
assert read.source == "dummy" and np.array_equal(read.position_zyx_angstrom, picks.position_zyx_angstrom)
main(["inspect", "picks.dummy"])
"""


def test_particle_format_is_one_file(package: PackageCopy) -> None:
    package.write("io/particles/dummy.py", FORMAT)
    assert "Lines of tomogram" in package.run(USE_OF_FORMAT)
    assert package.changed_files() == ["io/particles/dummy.py"]
    assert documented_count("a particle format") == 1


ENTRY = '''"""Equal probabilities for all classes; a test of how a benchmark entry is added."""

import numpy as np

from tomosift.evaluation.benchmark.entry import Entry, EntryResult
from tomosift.evaluation.benchmark.task import BenchmarkTask


def predict_equal(task: BenchmarkTask) -> EntryResult:
    """Return the same probability for every class."""
    shape = (len(task.data.test), len(task.protocol.classes))
    return EntryResult(np.full(shape, 1 / shape[1]))


ENTRIES = {"dummy": Entry("Equal probabilities for all classes.", predict_equal)}
'''

USE_OF_ENTRY = """
from pathlib import Path
from tomosift.cli.main import main
options = ["--methods", "dummy", "--budgets", "1", "--snrs", "0.1", "--seeds", "1", "--per-class", "20"]
main(["benchmark", "centered-ten", *options, "--out", "results"])
assert "Equal probabilities for all classes." in Path("results/report.html").read_text()
print(Path("results/table.csv").read_text())
"""


def test_benchmark_entry_is_one_file(package: PackageCopy) -> None:
    package.write("evaluation/benchmark/entries/dummy.py", ENTRY)
    assert re.search("^centered-ten,0.1,dummy,1,", package.run(USE_OF_ENTRY), re.MULTILINE)
    assert package.changed_files() == ["evaluation/benchmark/entries/dummy.py"]
    assert documented_count("a benchmark entry") == 1


SECTION = '''"""The number of particles; a test of how a section is added."""

from tomosift.evaluation.report.report_input import ReportInput
from tomosift.evaluation.report.section import Section


def render(report: ReportInput) -> str:
    """Return one paragraph."""
    return f'<section id="dummy"><p>A dummy counts {len(report.particles)} particles.</p></section>'


SECTION = Section("dummy", "Dummy section", render, order=1)
'''

USE_OF_SECTION = """
import numpy as np
from tomosift.evaluation.report import ReportInput, render_report
from tomosift.particles import Particles
particles = Particles.create(["a", "a"], np.zeros((2, 3)))
page = render_report(ReportInput("Title", particles, np.array([[0.9, 0.1], [0.2, 0.8]]), ("x", "y")))
assert "A dummy counts 2 particles." in page and '<a href="#dummy">Dummy section</a>' in page
"""


def test_section_of_the_report_is_one_file(package: PackageCopy) -> None:
    package.write("evaluation/report/sections/dummy.py", SECTION)
    package.run(USE_OF_SECTION)
    assert package.changed_files() == ["evaluation/report/sections/dummy.py"]
    assert documented_count("a section to the report") == 1
