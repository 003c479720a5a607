"""Entries of the domain-shift protocols, whose labels are of another domain.

The lower bound learns from the source domain alone, the upper bound from all labels of the target domain. The entries
between them use labeled source and unlabeled target subtomograms. All are trained by one method for the same number of
steps, except those that learn from simulations in the style of the target: these fit a probe and compare with the probe
of the plain source.
"""

from dataclasses import replace
from functools import partial

from tomosift import methods
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.benchmark.datasets import SOURCE_PER_CLASS
from tomosift.evaluation.benchmark.entry import Entry, EntryResult
from tomosift.evaluation.benchmark.task import BenchmarkTask
from tomosift.evaluation.benchmark.training import pretrain
from tomosift.inference.model_files import GENERAL
from tomosift.inference.prediction import predict_by_embeddings
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.cycle_wgan import Config as CycleWgan
from tomosift.methods.domain_adversarial import Config
from tomosift.methods.supervised import Config as Supervised
from tomosift.models.generator_files import load_generator
from tomosift.simulation.style_baselines import fit_style
from tomosift.simulation.style_transfer import StyleTransfer
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms

_STYLE_SEED = 4_000_000  # added to the seed, for simulations in the style of the target
_TEXTURE_PER_CLASS = 60
_SOURCE_ALONE = Config(features="none", warps=False, standardize_per_domain=False)


def adapt(
    task: BenchmarkTask, config: Config, is_source_simulated: bool = False, is_pretrained: bool = False
) -> EntryResult:
    """Adapt to the target domain and predict the test particles.

    Parameters
    ----------
    task
        Its source domain is labeled, its training particles are the target domain.
    config
        Settings of the adaptation.
    is_source_simulated
        Whether the source is simulated at every step from the structures, with domain randomization.
    is_pretrained
        Whether the encoder was pretrained on the target domain.
    """
    if is_source_simulated:
        config = replace(config, structures=task.protocol.classes)
    if is_pretrained:
        config = replace(config, init=pretrain(task, Contrastive(), "contrastive"))
    return _train_and_predict(task, config, TrainingSets.from_domains(_source(task), task.data.train))


def probe_source(task: BenchmarkTask) -> EntryResult:
    """Fit a probe to the labeled source and predict the test particles."""
    return _probe(task, _source(task))


def probe_style(task: BenchmarkTask, name: str, per_class: int = SOURCE_PER_CLASS) -> EntryResult:
    """Fit a probe to simulations in a style of the target; see `tomosift.simulation.style_baselines`."""
    return _probe_simulations(task, name, fit_style(name, task.data.train, task.data.empty), per_class)


def probe_generated(task: BenchmarkTask) -> EntryResult:
    """Train a generator on the target, then fit a probe to maps that it translated."""
    target, folder = task.data.train, task.shared / "cycle-wgan"
    config = task.scale_steps(CycleWgan(structures=task.protocol.classes))
    methods.train("cycle_wgan", config, TrainingSets.from_domains(target.empty(), target), folder, task.seed)
    return _probe_simulations(task, "translated", load_generator(folder), SOURCE_PER_CLASS)


def train_on_target_labels(task: BenchmarkTask) -> EntryResult:
    """Train on the labels of the target domain."""
    sets = TrainingSets(task.labeled, task.data.train, task.training_sets.validation)
    return _train_and_predict(task, _SOURCE_ALONE, sets)


def _source(task: BenchmarkTask) -> Subtomograms:
    if task.data.source is None:
        raise ValueError("the protocol has no source domain; choose an entry of another kind")
    return task.data.source


def _train_and_predict(task: BenchmarkTask, config: Config, sets: TrainingSets) -> EntryResult:
    first, second = (max(1, round(n * task.scale)) for n in (config.source_steps, config.discriminator_steps))
    config = replace(task.scale_steps(config), source_steps=first, discriminator_steps=second)
    model = methods.train("domain_adversarial", config, sets, task.folder / "run", task.seed)
    prediction = predict_by_embeddings(model, task.data.test)
    return EntryResult(prediction.probabilities, prediction.similarity)


def _probe_simulations(task: BenchmarkTask, name: str, style: StyleTransfer, per_class: int) -> EntryResult:
    target = task.data.train
    config = SubtomogramSetConfig(
        task.protocol.classes,
        max(3, round(per_class * min(1.0, task.scale))),
        target.box_size,
        style.ranges,
        target.voxel_spacing_angstrom,
        seed=task.seed + _STYLE_SEED,
    )
    source = simulate_subtomograms(config, task.shared / f"styled-{name}", style=style, style_name=name)
    return _probe(task, source.with_labels(source.particles.class_name, task.protocol.classes))


def _probe(task: BenchmarkTask, source: Subtomograms) -> EntryResult:
    config = Supervised(init=GENERAL, tuning="probe", pseudo_labels="never", class_averages="never")
    sets = TrainingSets.from_labels(source, source)
    model = methods.train("supervised", config, sets, task.folder / "run", task.seed)
    prediction = predict_by_embeddings(model, task.data.test)
    return EntryResult(prediction.probabilities, prediction.similarity)


def _adaptation_entry(
    description: str, config: Config, is_source_simulated: bool = False, is_pretrained: bool = False
) -> Entry:
    run = partial(adapt, config=config, is_source_simulated=is_source_simulated, is_pretrained=is_pretrained)
    return Entry(description, run, "domain-shift")


def _style_entry(description: str, name: str, per_class: int = SOURCE_PER_CLASS) -> Entry:
    return Entry(description, partial(probe_style, name=name, per_class=per_class), "domain-shift")


ENTRIES: dict[str, Entry] = {
    "source-only": _adaptation_entry("Labeled source subtomograms alone.", _SOURCE_ALONE),
    "source-probe": Entry(
        "Labeled source subtomograms alone, by logistic regression on frozen embeddings of the shipped model.",
        probe_source,
        "domain-shift",
    ),
    "source-wide": _adaptation_entry(
        "Simulations of the structures at every step, with domain randomization.",
        _SOURCE_ALONE,
        is_source_simulated=True,
    ),
    "own-scale": _adaptation_entry(
        "Source subtomograms; embeddings of the target standardized by their own mean and deviation.",
        replace(_SOURCE_ALONE, standardize_per_domain=True),
    ),
    "coral": _adaptation_entry("Equal covariances of embeddings (CORAL).", Config(features="covariance", warps=False)),
    "dann": _adaptation_entry("One domain discriminator (DANN).", Config(features="single", warps=False)),
    "cryo-shift-no-warps": _adaptation_entry("Class-wise domain discriminators without warps.", Config(warps=False)),
    "cryo-shift-no-adversaries": _adaptation_entry("Warps without domain discriminators.", Config(features="none")),
    "cryo-shift": _adaptation_entry("Class-wise domain discriminators and warps.", Config()),
    "cryo-shift-wide": _adaptation_entry(
        "The same with simulations of the structures at every step, with domain randomization, as the source.",
        Config(),
        is_source_simulated=True,
    ),
    "style-power": _style_entry("Simulations with the mean power spectrum of the target.", "power"),
    "style-histogram": _style_entry("Simulations with the voxel values of the target.", "histogram"),
    "style-noise": _style_entry("Simulated signals in empty subtomograms of the target's tomograms.", "noise"),
    "style-texture": _style_entry(
        f"Simulations with textures of the target, {_TEXTURE_PER_CLASS} of each class.", "texture", _TEXTURE_PER_CLASS
    ),
    "cycle-wgan": Entry(
        "Maps translated to the appearance of the target (CryoETGAN).", probe_generated, "domain-shift"
    ),
    "cssl-target": _adaptation_entry(
        "Contrastive pretraining on target subtomograms, then the labeled source subtomograms.",
        replace(_SOURCE_ALONE, standardize_per_domain=True),
        is_pretrained=True,
    ),
    "target-labels": Entry("All labels of the target: the upper bound.", train_on_target_labels, "domain-shift"),
}
