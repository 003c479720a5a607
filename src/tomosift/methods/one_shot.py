"""One-shot classification with masks (COS-Net): are two particles of one class, and which voxels are theirs?

Source: Zhou et al. 2021, "One-shot learning with attention-guided segmentation in cryo-electron tomography", Front.
Mol. Biosci. 7:613347, and its code. Its form is ``init=None, encoder="cosnet", decoder="cosnet", balanced=False``,
rate 1e-4 and 10 to 12 pairs a step; joint loss of pairs and, for both of each pair, soft Dice, all weights 1.

Deviations of the defaults, all ours: training starts from a pretrained encoder; the decoder has skip connections and
starts from the network that finds centers; every second pair is of one class, where theirs draws the classes of both
independently; AdamW with one cosine. As there, subtomograms are not augmented: simulation varies poses and noise.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tomosift.data.episodes import Pairs
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.inference.model_files import GENERAL, start_embedder
from tomosift.methods import TrainingInput
from tomosift.objectives.one_shot import PairObjective
from tomosift.progress import Progress
from tomosift.train.loop import Training, fit
from tomosift.train.run import Run

INPUT = TrainingInput("set", "Folder of a set with classes and masks, as `tomosift simulate subtomograms` writes it.")
USES_LABELS = True
SHARES_BATCHES = False


@dataclass(frozen=True)
class Config:
    """Settings of training on pairs."""

    init: Path | None = GENERAL
    """Run or shipped model whose encoder to start from; none starts from random weights."""
    encoder: str = "radial"
    """Encoder to train from random weights; with a model to start from, its encoder is used."""
    decoder: Literal["unet", "cosnet"] = "unet"
    """Decoder that predicts masks: unet for any encoder, cosnet for the encoders cosnet and siamese."""
    frozen: bool = False
    """Keep the weights of the encoder and train the head and the decoder only."""
    balanced: bool = True
    """Draw every second pair from one class; otherwise one in as many as there are classes."""
    training: Training = field(default_factory=lambda: Training(steps=1000, batch_size=12))
    """Number of steps and learning rate; the batch size counts pairs."""


def train(config: Config, data: TrainingSets, run: Run, seed: int, progress: Progress | None = None) -> Classifier:
    """Train a model without classes that also predicts masks, from labeled particles with masks.

    Classes are enrolled in it later, by one or more examples of each.

    Raises
    ------
    ValueError
        When fewer than two classes have two particles, the set has no masks, or the decoder does not fit the encoder.
    """
    stream = Pairs(data.labeled, config.training.batch_size, config.balanced, seed, masks=True)
    embedder = start_embedder(config.init, config.encoder, data.unlabeled if len(data.unlabeled) else data.labeled)
    encoder = embedder.encoder
    if config.decoder == "cosnet" and encoder.name not in ("cosnet", "siamese"):
        raise ValueError(
            f"the decoder cosnet needs the encoder cosnet or siamese, got {encoder.name}; take the decoder unet"
        )
    encoder.requires_grad_(not config.frozen)
    spacing, size = data.voxel_spacing_angstrom, data.box_size
    classifier = Classifier(embedder, ModelCard(encoder.name, spacing, size, head="pairs", decoder=config.decoder))
    fit(PairObjective(classifier), stream, config.training, run, seed, progress=progress)
    encoder.requires_grad_(True)
    return classifier.eval()
