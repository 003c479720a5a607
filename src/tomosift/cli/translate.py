"""Train a generator that gives density maps the style of measured subtomograms (CryoETGAN), and report on it."""

from pathlib import Path

from tomosift.cli.options import Seed, Set, Structures
from tomosift.cli.terminal import TerminalMonitor, print_message
from tomosift.inference.model_files import GENERAL
from tomosift.methods.cycle_wgan import Config
from tomosift.objectives.cycle_wgan import AdversarialLoss
from tomosift.workflows.translate import translate


def command(
    subtomograms: Set,
    /,
    structures: Structures,
    out: Path,
    steps: int = Config().training.steps,
    adversarial_loss: AdversarialLoss = "wasserstein",
    map_cycle_weight: float = Config().map_cycle_weight,
    model: Path | None = GENERAL,
    seed: Seed = 0,
) -> None:
    """Train a generator from maps of structures to subtomograms in the style of a set, without labels.

    OUT then is the folder of a run with the generator, a classifier trained on generated subtomograms, and
    ``report.html``. `tomosift simulate subtomograms --style OUT` makes labeled sets in this style. `train cycle_wgan`
    has all settings of the method.

    Args:
        out: Folder of the run; an interrupted one resumes.
        steps: Training steps of critics and generators together.
        adversarial_loss: A Wasserstein loss, or the least-squares one of the code that was released with the paper.
        map_cycle_weight: Weight of the distance between a map and its reconstruction; more keeps more of the map.
        model: Model by whose embeddings the result is evaluated and the classifier trained; None for random weights.
    """
    translate(
        subtomograms,
        structures,
        out,
        steps=steps,
        adversarial_loss=adversarial_loss,
        map_cycle_weight=map_cycle_weight,
        init=model,
        seed=seed,
        monitor=TerminalMonitor(),
    )
    print_message(f"{out}: trained; sets in this style: tomosift simulate subtomograms --structures ... --style {out}")
