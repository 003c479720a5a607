"""Entries of published or simple methods, for comparison with the project's own."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.data.batches import BalancedStream, Batch, Stream, UniformStream
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.benchmark.datasets import simulate_particles
from tomosift.evaluation.benchmark.entry import Entry, EntryResult
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.evaluation.benchmark.template_matching import match_templates, template_bank
from tomosift.evaluation.benchmark.training import pretrain_and_train, train_supervised
from tomosift.inference.classifier import Classifier, ModelCard, fit_embedder
from tomosift.inference.model_files import save_classifier
from tomosift.learning.calibration import fit_temperature, softmax
from tomosift.learning.linear_probe import fit_linear_probe, leave_one_out_logits
from tomosift.methods import contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.models.descriptors.radial import compute_radial_descriptors
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import apply_soft_sphere
from tomosift.models.encoders import build_encoder
from tomosift.models.losses import triplet_loss
from tomosift.objectives.contrastive import ContrastiveObjective
from tomosift.physics.augmentation import ViewRanges, normalize, view
from tomosift.simulation.structures.atlas import atlas_names
from tomosift.train.loop import fit
from tomosift.train.run import Run

_COMPONENTS = 24  # a handful of labels cannot weigh more dimensions
_POSES = 600  # 30 degrees apart on average, which half the sampling of the subtomograms resolves
_OTHERS_PER_CLASS = 200
_TRIPLET_SEED = 2_000_000  # added to the seed, for the particles of other structures

PLAIN_VIEWS = ViewRanges(
    rotation_max_deg=0.0,
    shift_voxels=4.0,
    scale=(1.0, 2.0),
    impose_wedge=False,
    low_pass_sigma_voxels=(0.0, 1.0),
    gain=(0.6, 1.4),
    log_gamma=(-0.4, 0.4),
    mirror=True,
)
"""Views of SimCLR as libraries for photographs draw them, in three dimensions: crop, mirror, intensity and blur."""


def probe_principal_components(task: BenchmarkTask) -> EntryResult:
    """Fit logistic regression to principal components of the descriptors of the default encoder; no network."""
    from sklearn.decomposition import PCA

    labeled, classes = task.labeled, len(task.labeled.class_names)
    embedder = fit_embedder(build_encoder("radial"), task.data.train)
    train = _compute_descriptors(task.data.train, embedder)
    mean, deviation = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    model = PCA(min(_COMPONENTS, *train.shape), random_state=0).fit((train - mean) / deviation)
    known, queries = (
        model.transform((_compute_descriptors(part, embedder) - mean) / deviation) for part in (labeled, task.data.test)
    )
    left_out = leave_one_out_logits(known, labeled.label, classes)
    temperature = fit_temperature(left_out, labeled.label) if len(left_out) else 1.0
    logits = fit_linear_probe(known, labeled.label, classes).logits(queries)
    return EntryResult(softmax(logits, temperature))


@torch.inference_mode()
def _compute_descriptors(subtomograms: Subtomograms, embedder: Embedder) -> Float[np.ndarray, "n e"]:
    parts = []
    for start in range(0, len(subtomograms), 64):
        rows = np.arange(start, min(start + 64, len(subtomograms)))
        centered = embedder.recenter(torch.from_numpy(subtomograms.volumes(rows)))
        parts.append(compute_radial_descriptors(apply_soft_sphere(centered)).numpy())
    return np.concatenate(parts)


def match_true_templates(task: BenchmarkTask) -> EntryResult:
    """Take the highest correlation with the true structures (oracle); labels only set the temperature."""
    protocol, test = task.protocol, task.data.test
    ranges = protocol.imaging(task.snr)
    bank = template_bank(protocol.classes, ranges, test.voxel_spacing_angstrom, test.box_size, _POSES)
    max_shift = int(max(1.0, ranges.shift_voxels[1]))
    temperature = fit_temperature(match_templates(task.labeled, bank, max_shift), task.labeled.label)
    scores = match_templates(test, bank, max_shift)
    return EntryResult(softmax(scores, temperature), scores.max(axis=1))


def pretrain_on_plain_views(task: BenchmarkTask) -> EntryResult:
    """Pretrain by SimCLR with views and temperature as for photographs, then fine-tune."""
    config = contrastive.Config(init=None, temperature=0.5, views=PLAIN_VIEWS)
    return pretrain_and_train(task, config, "simclr-plain")


def pretrain_on_torchio_views(task: BenchmarkTask) -> EntryResult:
    """Pretrain with the transforms of TorchIO, at their default settings, then fine-tune."""
    config, subtomograms = task.scale_steps(contrastive.Config()), task.data.pretraining
    _, encoder = contrastive.start_encoder(config)
    embedder = fit_embedder(encoder, subtomograms)
    objective = ContrastiveObjective(
        encoder, _TorchIOViews(embedder), temperature=config.temperature, projection_size=config.projection_size
    )
    stream = UniformStream(subtomograms, config.training.batch_size, task.seed)
    init = _train_objective(task, "torchio", objective, embedder, config, subtomograms, stream)
    return train_supervised(task, Supervised(init=init, class_averages="never"))


def pretrain_on_triplets(task: BenchmarkTask) -> EntryResult:
    """Pretrain on triplets of labeled simulations of other structures, then fine-tune."""
    config = task.scale_steps(contrastive.Config())
    known = task.protocol.classes + task.protocol.others
    others = tuple(name for name in atlas_names() if name not in known)
    protocol = replace(task.protocol, per_class=_OTHERS_PER_CLASS)
    folder = task.shared / "other-structures"
    subtomograms = simulate_particles(protocol, others, task.snr, task.seed + _TRIPLET_SEED, folder)
    embedder = fit_embedder(build_encoder(config.encoder), subtomograms)
    objective = _TripletObjective(embedder, config, subtomograms.voxel_spacing_angstrom)
    stream = BalancedStream(subtomograms, config.training.batch_size, task.seed)
    init = _train_objective(task, "triplet", objective, embedder, config, subtomograms, stream)
    return train_supervised(task, Supervised(init=init, class_averages="never"))


@dataclass(frozen=True, eq=False)
class _TorchIOViews:
    """Draws two views of each subtomogram by TorchIO with its default settings."""

    embedder: Embedder

    def __call__(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "b d d d"], Float[Tensor, "b d d d"]]:
        """Draw the views. TorchIO uses torch's global generator, which the training loop seeds at every step."""
        try:
            import torchio
        except ImportError:
            message = "the entry torchio needs the package torchio; install it with pip install tomosift[bench]"
            raise ValueError(message) from None
        transform = torchio.Compose(
            [
                torchio.RandomFlip(axes=(0, 1, 2)),
                torchio.RandomAffine(),
                torchio.RandomNoise(),
                torchio.RandomBlur(),
                torchio.RandomGamma(),
            ]
        )
        volume = self.embedder.recenter(batch.volume)
        first, second = (
            normalize(torch.stack([transform(box[None])[0] for box in volume.cpu()])).to(volume.device)
            for _ in range(2)
        )
        return first, second


class _TripletObjective(nn.Module):
    """Particles of one structure attract, particles of others repel.

    Notes
    -----
    Source: Rice et al. 2023, "TomoTwin: generalized 3D localization of macromolecules in cryo-electron tomograms with
    structural data mining". Deviations: the project's encoder, views and subtomograms instead of that paper's.
    """

    def __init__(self, embedder: Embedder, config: contrastive.Config, voxel_spacing_angstrom: float) -> None:
        super().__init__()
        self.embedder, self.encoder = embedder, embedder.encoder
        self.views, self.voxel_spacing_angstrom = config.views, voxel_spacing_angstrom
        self.projection = nn.Linear(self.encoder.embedding_size, config.projection_size)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The triplet loss of one view of each subtomogram."""
        parameters = self.views.sample(len(batch), generator)
        with torch.no_grad():
            views = view(
                self.embedder.recenter(batch.volume),
                batch.tilt_range_deg,
                parameters,
                self.voxel_spacing_angstrom,
                self.encoder.pose_augmentation,
            )
        return {"loss": triplet_loss(self.projection(self.encoder(views)).float(), batch.label)}


def _train_objective(
    task: BenchmarkTask,
    name: str,
    objective: ContrastiveObjective | _TripletObjective,
    embedder: Embedder,
    config: contrastive.Config,
    subtomograms: Subtomograms,
    stream: Stream[Batch],
) -> Path:
    """Train an encoder once for all cells that share it; return the folder of the run."""
    run = Run.open(task.shared / name, {"row": name, "seed": task.seed, "steps": config.training.steps})
    if not (run.result / "model.json").exists():
        torch.manual_seed(task.seed)
        fit(objective, stream, config.training, run, task.seed)
        card = ModelCard(config.encoder, subtomograms.voxel_spacing_angstrom, subtomograms.box_size)
        save_classifier(run.result, Classifier(embedder, card))
    return run.folder


ENTRIES: dict[str, Entry] = {
    "pca": Entry("Logistic regression on principal components of the descriptors.", probe_principal_components),
    "simclr-plain": Entry(
        "SimCLR from random weights, its views and temperature as for photographs, then fine-tuning as of cssl.",
        pretrain_on_plain_views,
    ),
    "torchio": Entry(
        "Pretraining on TorchIO's default transforms, then fine-tuning as of cssl.", pretrain_on_torchio_views
    ),
    "triplet": Entry("Triplets of other, simulated structures, then fine-tuning as of cssl.", pretrain_on_triplets),
    "templates": Entry("Oracle: correlation with the true structures, which no label gives.", match_true_templates),
}
