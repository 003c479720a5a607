"""Rows of the benchmark that do without the project's own method: what a user would take instead."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.data.batches import BalancedStream, Batch, Stream, UniformStream
from tomosift.data.subtomograms import Subtomograms
from tomosift.evaluation.benchmark.datasets import simulate_particles
from tomosift.evaluation.benchmark.task import BenchmarkTask, EntryResult, scale_steps, train_supervised
from tomosift.evaluation.benchmark.template_matching import match_templates, template_bank
from tomosift.inference.classifier import Classifier, ModelCard, save_classifier
from tomosift.learning.calibration import fit_temperature, softmax
from tomosift.learning.linear_probe import fit_linear_probe, leave_one_out_logits
from tomosift.methods import contrastive
from tomosift.methods.supervised import Config as Supervised
from tomosift.models.encoder import BOXES_TO_PREPARE, Encoder, apply_soft_sphere
from tomosift.models.encoders import build_encoder
from tomosift.models.losses import triplet_loss
from tomosift.models.radial_descriptors import compute_radial_descriptors
from tomosift.physics.augmentation import ViewRanges, normalized, view
from tomosift.simulate.structures.atlas import atlas_names
from tomosift.train.loop import fit
from tomosift.train.run import Run

_COMPONENTS = 24  # more would give a handful of labels more directions than they can weigh
_POSES = 600  # 30 degrees apart on average, which is what half the sampling of the boxes resolves
_OTHERS_PER_CLASS = 200

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


@torch.inference_mode()
def _invariants(boxes: Subtomograms, encoder: Encoder) -> Float[np.ndarray, "n e"]:
    batches = [np.arange(start, min(start + 64, len(boxes))) for start in range(0, len(boxes), 64)]
    plain = (torch.from_numpy(boxes.volumes(rows)) for rows in batches)
    return np.concatenate(
        [compute_radial_descriptors(apply_soft_sphere(encoder.centered(volume))).numpy() for volume in plain]
    )


def principal_components(task: BenchmarkTask) -> EntryResult:
    """Logistic regression on principal components of the numbers that the default encoder starts from; no network."""
    from sklearn.decomposition import PCA

    boxes, rows = task.world.train, task.labeled
    encoder = build_encoder("radial")
    encoder.prepare(torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE))))
    train = _invariants(boxes, encoder)
    mean, deviation = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    model = PCA(min(_COMPONENTS, *train.shape), random_state=0).fit((train - mean) / deviation)
    known = model.transform((_invariants(rows, encoder) - mean) / deviation)
    asked = model.transform((_invariants(task.world.test, encoder) - mean) / deviation)
    left_out = leave_one_out_logits(known, rows.label, len(rows.class_names))
    temperature = fit_temperature(left_out, rows.label) if len(left_out) else 1.0
    return EntryResult(softmax(fit_linear_probe(known, rows.label, len(rows.class_names)).logits(asked), temperature))


def template_matching(task: BenchmarkTask) -> EntryResult:
    """Best correlation with the true structures; labels only set the temperature of the probabilities."""
    protocol, test = task.protocol, task.world.test
    ranges = protocol.imaging(task.snr)
    bank = template_bank(protocol.classes, ranges, test.voxel_spacing_angstrom, test.box_size, _POSES)
    farthest = int(max(1.0, ranges.shift_voxels[1]))
    told = fit_temperature(match_templates(task.labeled, bank, farthest), task.labeled.label)
    scores = match_templates(test, bank, farthest)
    return EntryResult(softmax(scores, told), scores.max(axis=1))


def torchio_views(task: BenchmarkTask) -> EntryResult:
    """The default recipe with TorchIO's transforms, as they come, in place of the project's views."""
    config = scale_steps(contrastive.Config(), task)
    spacing = task.world.train.voxel_spacing_angstrom
    learner = _TorchIOLearner(config, spacing, contrastive.starting_model(config))
    boxes = task.world.pretraining
    stream = UniformStream(boxes, config.training.batch_size, task.seed)
    init = _trained(task, "torchio", learner, config, boxes, stream)
    return train_supervised(task, Supervised(init=init, averages="never"))


def triplet(task: BenchmarkTask) -> EntryResult:
    """An encoder trained by triplets of labeled simulations of other structures, then fine-tuning as of cssl."""
    config = scale_steps(contrastive.Config(), task)
    known = task.protocol.classes + task.protocol.others
    others = tuple(name for name in atlas_names() if name not in known)
    protocol = replace(task.protocol, per_class=_OTHERS_PER_CLASS)
    boxes = simulate_particles(protocol, others, task.snr, task.seed + 2_000_000, task.shared / "other-structures")
    learner = _TripletLearner(config, boxes.voxel_spacing_angstrom)
    stream = BalancedStream(boxes, config.training.batch_size, task.seed)
    init = _trained(task, "triplet", learner, config, boxes, stream)
    return train_supervised(task, Supervised(init=init, averages="never"))


class _TorchIOLearner(contrastive.Learner):
    """Contrast between views that TorchIO makes with its default settings."""

    def two_views(
        self, batch: Batch, generator: torch.Generator
    ) -> tuple[Float[Tensor, "b d d d"], Float[Tensor, "b d d d"]]:
        """TorchIO draws from torch's global generator, which the training loop ties to the step."""
        try:
            import torchio
        except ImportError:
            raise ValueError("the row torchio needs the package torchio; pip install tomosift[bench]") from None
        transform = torchio.Compose(
            [
                torchio.RandomFlip(axes=(0, 1, 2)),
                torchio.RandomAffine(),
                torchio.RandomNoise(),
                torchio.RandomBlur(),
                torchio.RandomGamma(),
            ]
        )
        volume = self.encoder.centered(batch.volume)
        first, second = (
            normalized(torch.stack([transform(box[None])[0] for box in volume.cpu()])).to(volume.device)
            for _ in range(2)
        )
        return first, second


class _TripletLearner(nn.Module):
    """Particles of one structure attract, those of others repel.

    Source: Rice et al. 2023, "TomoTwin: generalized 3D localization of macromolecules in cryo-electron tomograms with
    structural data mining". Deviations: the project's encoder, views and boxes instead of that paper's.
    """

    def __init__(self, config: contrastive.Config, voxel_spacing_angstrom: float) -> None:
        super().__init__()
        self.views, self.voxel_spacing_angstrom = config.views, voxel_spacing_angstrom
        self.encoder = build_encoder(config.encoder)
        self.projection = nn.Linear(self.encoder.embedding_size, config.projection_size)

    def prepare(self, volume: Float[Tensor, "b d d d"]) -> None:
        """Let the encoder look at plain boxes before the first step."""
        self.encoder.prepare(volume)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The triplet loss of one view of each box."""
        ranges = self.views.sample(len(batch), generator)
        with torch.no_grad():
            given = (batch.tilt_range_deg, ranges, self.voxel_spacing_angstrom, self.encoder.turns)
            seen = view(self.encoder.centered(batch.volume), *given)
        return {"loss": triplet_loss(self.projection(self.encoder(seen, True)).float(), batch.label)}


def _trained(
    task: BenchmarkTask,
    name: str,
    learner: contrastive.Learner | _TripletLearner,
    config: contrastive.Config,
    boxes: Subtomograms,
    stream: Stream[Batch],
) -> Path:
    """Folder of a run that holds the encoder of this learner, trained once for all cells of a group."""
    run = Run.open(task.shared / name, {"row": name, "seed": task.seed, "steps": config.training.steps})
    if not (run.result / "model.json").exists():
        torch.manual_seed(task.seed)
        learner.prepare(torch.from_numpy(boxes.volumes(boxes.spaced_rows(BOXES_TO_PREPARE))))
        fit(learner, stream, config.training, run, task.seed)
        card = ModelCard(config.encoder, boxes.voxel_spacing_angstrom, boxes.box_size)
        classifier = Classifier(build_encoder(config.encoder), card)
        classifier.encoder.load_state_dict(learner.encoder.state_dict())
        save_classifier(run.result, classifier)
    return run.folder
