"""Contrastive self-supervised pretraining (CSSL): two views of one particle attract, other particles repel.

Source: Gupta et al. 2022, "Self-supervised learning for macromolecular structure classification based on cryo-electron
tomograms", Front. Physiol. 13:957484. The readable text names neither framework nor settings; momentum contrast is
what the lab's scripts use and is the reference here. All default values are ours.

Deviations from those scripts: keys and queries are drawn from three-dimensional, wedge-aware views; the output has 128
dimensions, never the number of classes; both views are used as query; views may have independent noise; training
starts from a pretrained encoder, not from random weights.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

from tomosift.data.batches import UniformStream
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard, fit_embedder
from tomosift.inference.model_files import GENERAL, load_classifier
from tomosift.methods import TrainingInput
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder
from tomosift.models.encoders import build_encoder
from tomosift.objectives.contrastive import ContrastiveObjective, Framework, IndependentNoise, ViewPairs
from tomosift.physics.augmentation import ViewRanges
from tomosift.progress import Progress
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run

INPUT = TrainingInput("set", "Folder of a set; labels in it are not used.")
USES_LABELS = False
SHARES_BATCHES = True

CONTRASTED = ViewRanges(noise_std=(0.0, 0.5), gain=(0.8, 1.2), log_gamma=(-0.2, 0.2), hidden_cubes=2, swapped_cubes=4)
"""Views that raised probe accuracy most; experiments/LOG.md has the gain of each group."""


@dataclass(frozen=True)
class Config:
    """Settings of contrastive pretraining."""

    init: Path | None = GENERAL
    """Run or shipped model to start from; none starts from random weights. Of the shipped `general` only the encoder
    `radial` is available, so other encoders start from random weights unless a run is named."""
    encoder: str = "radial"
    """Encoder to train; `tomosift train --help` lists them."""
    framework: Framework = "simclr"
    """Momentum contrast with a queue of keys (moco), or NT-Xent among the views of the batch (simclr)."""
    temperature: float = 0.2
    """Temperature of the softmax over similarities."""
    projection_size: int = 128
    """Dimensions in which views are compared; the projection is discarded after training."""
    queue_size: int = 1024
    """Keys in the queue of momentum contrast; it need not be a multiple of the batch size."""
    momentum: float = 0.99
    """Share of the key encoder's weights that is kept at each step of momentum contrast."""
    independent_noise: IndependentNoise = "off"
    """Draw views with independent noise: from half tomograms, or from alternating sectors of Fourier space."""
    sector_deg: float = 9.0
    """Width of these sectors about the tilt axis, in degrees."""
    views: ViewRanges = field(default_factory=lambda: CONTRASTED)
    """Augmentation of the views; its default ranges are wider than those of supervised training."""
    training: Training = field(default_factory=lambda: Training(steps=300, batch_size=96, learning_rate=2e-3))
    """Number of steps and learning rate."""


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """Pretrain an encoder on ``data.unlabeled``; labels are not used.

    The result also has the PLDA and the decoder `unet` of the model to start from, as far as it has them.

    Raises
    ------
    ValueError
        When there are fewer than two unlabeled subtomograms, when half subtomograms are requested and the set has none,
        or when the model to start from has another encoder.
    """
    if len(data.unlabeled) < 2:
        raise ValueError(f"contrastive pretraining got {len(data.unlabeled)} subtomograms, expected at least 2")
    start, encoder = start_encoder(config)
    embedder, spacing = fit_embedder(encoder, data.unlabeled), data.voxel_spacing_angstrom
    objective = ContrastiveObjective(
        encoder,
        ViewPairs(embedder, config.views, spacing, config.independent_noise, config.sector_deg),
        framework=config.framework,
        temperature=config.temperature,
        projection_size=config.projection_size,
        queue_size=config.queue_size,
        momentum=config.momentum,
    )
    has_halves = config.independent_noise == "halves"
    stream = UniformStream(data.unlabeled, config.training.batch_size, seed, halves=has_halves)
    fit(objective, stream, config.training, run, seed, progress=progress)
    return _add_parts_of_start(start, embedder, ModelCard(config.encoder, spacing, data.box_size)).eval()


def start_encoder(config: Config) -> tuple[Classifier | None, Encoder]:
    """Return the model to start from, if any, and a new encoder with its weights.

    The model may be of another voxel spacing: training adapts to that.

    Raises
    ------
    ValueError
        When the model has another encoder.
    """
    start = None if config.init is None else load_classifier(config.init)
    if start is not None and start.card.encoder != config.encoder:
        if config.init != GENERAL:
            raise ValueError(
                f"the encoder of {config.init} is {start.card.encoder}, expected {config.encoder} as requested; "
                "give another --model or --encoder"
            )
        start = None
    encoder = build_encoder(config.encoder)
    if start is not None:
        encoder.load_state_dict(start.encoder.state_dict())
    return start, encoder


def _add_parts_of_start(start: Classifier | None, embedder: Embedder, card: ModelCard) -> Classifier:
    """Build the result from the trained encoder and the parts of the model to start from that still apply."""
    if start is None:
        return Classifier(embedder, card)
    # By one example of each class, its PLDA classifies 1 to 5 points more particles right than cosine. Classes go.
    has_plda = start.card.head == "plda" and not start.card.class_names
    has_decoder = start.card.decoder == "unet"  # which takes subtomograms, not embeddings
    card = replace(card, head=start.card.head if has_plda else card.head)
    card = replace(card, decoder=start.card.decoder if has_decoder else card.decoder)
    return Classifier(
        embedder,
        card,
        head=start.head if has_plda else None,
        decoder=start.decoder if has_decoder else None,
    )
