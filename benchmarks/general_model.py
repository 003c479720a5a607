"""Train the model ``general`` that comes with the program: an encoder that knows what complexes look like.

    ./dev bench general_model --work FOLDER

Particles of one complex attract, those of others repel (supervised contrast), among the complexes that do not exist
which `benchmarks/center_finder.py` simulates below the same --work. What `radial` learns starts from descriptors, so
they are computed once and training takes a minute. It is measured on the real structures of `lab-ten`, none of which it
has seen. Sets, descriptors and the run are kept, so an interrupted training goes on. The model is written without what
makes masks and what compares examples; `benchmarks/masks.py` and `benchmarks/discriminant.py` give it these.

Source: Khosla et al. 2020, "Supervised contrastive learning", for the loss; Rice et al. 2023, "TomoTwin: generalized 3D
localization of macromolecules in cryo-electron tomograms with structural data mining", for one embedding of everything.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from center_finder import Options as Simulation
from center_finder import conditions, simulated_set
from torch import Tensor, nn
from torch.nn import functional

from tomosift.data.splits import few_labels
from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluate.protocols import PROTOCOLS, build_world
from tomosift.files import write_json, written_then_renamed
from tomosift.nn.center_finder import weights_path
from tomosift.nn.classifier import Classifier, ModelCard, load_classifier, save_classifier
from tomosift.nn.descriptors import descriptors
from tomosift.nn.encoder import BOXES_TO_PREPARE, Encoder, masked
from tomosift.nn.encoders import Radial
from tomosift.nn.inference import embed
from tomosift.nn.losses import supervised_contrastive
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run

FOLDER = weights_path().parent / "shipped" / "general"
TEMPERATURE = 0.1
DROPOUT = 0.3
NOISE = 0.2
"""Added to standardized descriptors at every step."""
DRAWS = 10


@dataclass(frozen=True)
class Options:
    """How long to train."""

    work: Path
    """Folder for simulated sets, descriptors and the run."""
    sets: int = 30
    """Of 120 complexes each; the first ones are those that the center finder learned from."""
    steps: int = 3000
    classes_per_batch: int = 96
    per_class: int = 4
    learning_rate: float = 2e-3
    seed: int = 200
    measure: bool = False
    """Only measure the model that comes with the program."""


def described(boxes: Subtomograms, path: Path) -> Tensor:
    """(n, e) descriptors of a set as `Radial` sees them, kept in a file."""
    if not path.exists():
        encoder = Radial()
        encoder.prepare(torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE))))
        parts = np.array_split(np.arange(len(boxes)), len(boxes) // 128 + 1)
        with torch.inference_mode():
            rows = [descriptors(masked(encoder.centered(torch.from_numpy(boxes.volumes(part))))) for part in parts]
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_then_renamed(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, torch.cat(rows).numpy())
    return torch.from_numpy(np.load(path))


@dataclass(frozen=True)
class Rows:
    """A batch of descriptors."""

    x: Tensor
    label: Tensor

    def shard(self, rank: int, count: int) -> "Rows":
        return Rows(self.x[rank::count], self.label[rank::count])

    def to(self, device: torch.device) -> "Rows":
        return Rows(self.x.to(device), self.label.to(device))


@dataclass(frozen=True)
class Classes:
    """A few particles of each of many complexes."""

    x: Tensor
    members: list[np.ndarray]
    options: Options

    def batch(self, step: int) -> Rows:
        rng = np.random.default_rng([self.options.seed, step])
        chosen = rng.permutation(len(self.members))[: self.options.classes_per_batch]
        rows = [rng.permutation(self.members[k])[: self.options.per_class] for k in chosen]
        label = np.repeat(chosen, [len(mine) for mine in rows])
        return Rows(self.x[torch.from_numpy(np.concatenate(rows))], torch.from_numpy(label))


class Learner(nn.Module):
    """The layers of `Radial` on standardized descriptors, and a projection that is thrown away."""

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.layers = Radial().layers
        self.projection = nn.Linear(Radial.embedding_size, 128)

    def forward(self, batch: Rows, generator: torch.Generator) -> dict[str, Tensor]:
        x = (batch.x - self.mean) / self.deviation
        x = x + NOISE * torch.randn(x.shape, generator=generator).to(x.device)
        hidden = functional.dropout(self.layers[1](self.layers[0](x)), DROPOUT)
        embedding = self.layers[3](self.layers[2](hidden))
        return {"loss": supervised_contrastive(self.projection(embedding), batch.label, TEMPERATURE)}

    def encoder(self) -> Radial:
        """`Radial` with these layers, the standardization within the first of them."""
        encoder = Radial()
        encoder.layers.load_state_dict(self.layers.state_dict())
        first = encoder.layers[0]
        with torch.no_grad():
            first.weight /= self.deviation
            first.bias -= first.weight @ self.mean
        return encoder


def by_prototypes(encoder: Encoder, known: Subtomograms, asked: Subtomograms, per_class: int) -> list[float]:
    """Accuracy of the nearest class mean (cosine), for several draws of labels."""
    train, test = (embed(encoder, part.volumes, len(part)) for part in (known, asked))
    train, test = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (train, test))
    found = []
    for draw in range(DRAWS):
        rows = few_labels(known, per_class, draw)
        label = known.label[rows]
        mean = np.stack([train[rows][label == k].mean(axis=0) for k in range(len(known.class_names))])
        nearest = (test @ (mean / np.linalg.norm(mean, axis=1, keepdims=True)).T).argmax(axis=1)
        found.append(float((nearest == asked.label).mean()))
    return found


def measure(encoder: Encoder, work: Path) -> dict[str, str]:
    """Mean accuracy (range over draws) on `lab-ten`, without any training on its particles."""
    rows = {}
    for snr in (0.1, 0.03):
        world = build_world(PROTOCOLS["lab-ten"], snr, 0, work / f"lab-ten-{snr:g}")
        known = world.train
        encoder.prepare(torch.from_numpy(known.volumes(known.spaced_rows(BOXES_TO_PREPARE))))
        for per_class in (1, 5, 15):
            found = by_prototypes(encoder, known, world.test, per_class)
            text = f"{np.mean(found):.3f} ({min(found):.3f} to {max(found):.3f})"
            rows[f"SNR {snr:g}, {per_class} per class"] = text
            print(f"SNR {snr:g}, {per_class} per class: {text}", flush=True)
    return rows


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Simulate, train, write and measure."""
    if options.measure:
        measure(load_classifier(Path("general")).encoder, options.work)
        return
    simulation = Simulation(options.work)
    sets = [simulated_set(simulation, number) for number in range(options.sets)]
    parts = [described(boxes, options.work / "descriptors" / f"{k:02d}.npy") for k, boxes in enumerate(sets)]
    label = np.concatenate([boxes.label + k * simulation.classes for k, boxes in enumerate(sets)])
    x = torch.cat(parts)
    members = [np.flatnonzero(label == k) for k in range(options.sets * simulation.classes)]
    training = Training(options.steps, learning_rate=options.learning_rate, checkpoint_every=500)
    run = Run.open(options.work / "general", {**asdict(options), "work": "", "training": asdict(training)})
    torch.manual_seed(options.seed)
    learner = Learner(x.mean(dim=0), x.std(dim=0) + 1e-6)
    fit(learner, Classes(x, members, options), training, run, options.seed)
    encoder = learner.encoder()
    card = ModelCard("radial", sets[0].voxel_spacing_angstrom, sets[0].box_size)
    save_classifier(FOLDER, Classifier(encoder, card))
    about = {
        "what": "An encoder trained on complexes that do not exist, to start from.",
        "made_by": "./dev bench general_model --work FOLDER",
        "options": {key: value for key, value in asdict(options).items() if key not in ("work", "measure")},
        "sources": f"{len(members)} complexes of tomosift.simulate.random_complexes, {len(x)} boxes",
        "imaging": [asdict(conditions(number)) for number in range(2)],
        "nearest_class_mean_on_lab_ten": measure(encoder, options.work),
        "limits": "Protein-like densities at 10 A; no membranes, filaments or gold among what it learned from.",
        "license": "BSD-3-Clause, as the program",
    }
    write_json(FOLDER / "about.json", about)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
