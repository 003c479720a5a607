"""Rows of protocols whose labels are of another domain: ways to carry a classifier over, between two ends.

The lower end learns from the source alone, the upper end from all labels of the target; every row in between sees
labeled source boxes and unlabeled target boxes. All are trained by one method for as many steps, but for those that
learn from boxes in another look: their probe is compared with that of the source as it is.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tomosift import methods
from tomosift.data.subtomograms import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.evaluation.benchmark.datasets import SOURCE_EACH
from tomosift.evaluation.benchmark.task import BenchmarkTask, EntryResult, pretrain, scale_steps
from tomosift.inference.classifier import GENERAL
from tomosift.inference.prediction import predict
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.methods.cycle_wgan import Config as CycleWgan
from tomosift.methods.domain_adversarial import Config
from tomosift.methods.supervised import Config as Supervised
from tomosift.models.generators import load_generator
from tomosift.simulate.maps import BoxStyle
from tomosift.simulate.styles import fit_style
from tomosift.simulate.subtomograms import SubtomogramSetConfig, simulate_subtomograms

_OF_LOOKS = 4_000_000  # added to the seed, for boxes whose look is changed
_ALONE = Config(features="none", warps=False, own_scale=False)


def _adapted(
    config: Config, *, simulates: bool = False, pretrains: bool = False
) -> Callable[[BenchmarkTask], EntryResult]:
    def row(task: BenchmarkTask) -> EntryResult:
        source, target = task.world.source, task.world.train
        assert source is not None
        wanted = config
        if simulates:
            wanted = replace(wanted, structures=task.protocol.classes)
        if pretrains:
            wanted = replace(wanted, init=pretrain(task, Contrastive(), "contrastive"))
        return _answered(task, wanted, TrainingSets.across(source, target))

    return row


def _probe(task: BenchmarkTask) -> EntryResult:
    assert task.world.source is not None
    return _probed(task, task.world.source)


def _probed(task: BenchmarkTask, source: Subtomograms) -> EntryResult:
    none = source.select(np.zeros(0, dtype=np.int64))
    config = Supervised(init=GENERAL, tuning="probe", spread="never", averages="never")
    model = methods.train("supervised", config, TrainingSets(source, source, none), task.folder / "run", task.seed)
    said = predict(model, task.world.test.volumes, len(task.world.test))
    return EntryResult(said.probabilities, said.similarity)


def _styled(name: str, each: int = SOURCE_EACH) -> Callable[[BenchmarkTask], EntryResult]:
    def row(task: BenchmarkTask) -> EntryResult:
        return _of_look(task, name, fit_style(name, task.world.train, task.world.empty), each)

    return row


def _translated(task: BenchmarkTask) -> EntryResult:
    target = task.world.train
    none = target.select(np.zeros(0, dtype=np.int64))
    folder = task.shared / "cycle-wgan"
    config = scale_steps(CycleWgan(structures=task.protocol.classes), task)
    methods.train("cycle_wgan", config, TrainingSets.across(none, target), folder, task.seed)
    return _of_look(task, "translated", load_generator(folder), SOURCE_EACH)


def _of_look(task: BenchmarkTask, name: str, style: BoxStyle, each: int) -> EntryResult:
    """The answer of a probe, as of `source-probe`, that learned from simulated boxes of this look alone."""
    target = task.world.train
    each = max(3, round(each * min(1.0, task.scale)))
    described = SubtomogramSetConfig(
        task.protocol.classes,
        each,
        target.box_size,
        style.ranges,
        target.voxel_spacing_angstrom,
        seed=task.seed + _OF_LOOKS,
    )
    source = simulate_subtomograms(described, task.shared / f"styled-{name}", look=style, look_name=name)
    source = source.with_labels(source.particles.class_name, task.protocol.classes)
    return _probed(task, source)


def _target_labels(task: BenchmarkTask) -> EntryResult:
    return _answered(task, _ALONE, TrainingSets(task.labeled, task.world.train, task.data.validation))


def _answered(task: BenchmarkTask, config: Config, data: TrainingSets) -> EntryResult:
    first, second = (max(1, round(n * task.scale)) for n in (config.source_steps, config.discriminator_steps))
    config = replace(scale_steps(config, task), source_steps=first, discriminator_steps=second)
    model = methods.train("domain_adversarial", config, data, task.folder / "run", task.seed)
    said = predict(model, task.world.test.volumes, len(task.world.test))
    return EntryResult(said.probabilities, said.similarity)


SHIFTED: dict[str, tuple[str, Callable[[BenchmarkTask], EntryResult]]] = {
    "source-only": ("Labeled source boxes alone.", _adapted(_ALONE)),
    "source-probe": (
        "Labeled source boxes alone, by logistic regression on frozen embeddings of the shipped model.",
        _probe,
    ),
    "source-wide": (
        "Simulations of the structures at every step, under wide conditions.",
        _adapted(_ALONE, simulates=True),
    ),
    "own-scale": (
        "Source boxes; embeddings of the target standardized by its own mean and deviation.",
        _adapted(replace(_ALONE, own_scale=True)),
    ),
    "coral": ("Equal covariances of embeddings (CORAL).", _adapted(Config(features="covariance", warps=False))),
    "dann": ("One discriminator of domains (DANN).", _adapted(Config(features="single", warps=False))),
    "cryo-shift-no-warps": ("Class-wise adversaries without warps.", _adapted(Config(warps=False))),
    "cryo-shift-no-adversaries": ("Warps without adversaries of embeddings.", _adapted(Config(features="none"))),
    "cryo-shift": ("Class-wise adversaries and warps.", _adapted(Config())),
    "cryo-shift-wide": (
        "The same with simulations of the structures at every step, under wide conditions, as the source.",
        _adapted(Config(), simulates=True),
    ),
    "style-power": ("Simulations with the mean power spectrum of the target.", _styled("power")),
    "style-histogram": ("Simulations with the voxel values of the target.", _styled("histogram")),
    "style-noise": ("Simulated signals in boxes from empty places of the target's tomograms.", _styled("noise")),
    "style-texture": ("Simulations with textures of the target, 60 of each class.", _styled("texture", 60)),
    "cycle-wgan": ("Maps translated to the look of the target (CryoETGAN).", _translated),
    "cssl-target": (
        "Contrastive pretraining on target boxes, then the labeled source boxes.",
        _adapted(replace(_ALONE, own_scale=True), pretrains=True),
    ),
    "target-labels": ("All labels of the target: the upper end.", _target_labels),
}
"""Name of each row, what it is, and how it answers."""
