"""Domain adaptation: a labeled source domain, an unlabeled target domain with other imaging conditions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.batches import PairedBatch, read_batch
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.inference.classifier import Classifier, ModelCard
from tomosift.methods.domain_adversarial import Config
from tomosift.models.embedder import Embedder
from tomosift.models.encoders import build_encoder
from tomosift.models.recentering import Recentering
from tomosift.objectives.domain_adversarial import DomainAdversarialObjective, Features
from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.train.loop import Training

CLASSES = ("ribosome-70s", "apoferritin", "proteasome-20s")
SHORT = Config(
    init=None,
    warp_width=2,
    source_steps=4,
    discriminator_steps=4,
    training=Training(steps=6, batch_size=12, checkpoint_every=3),
)


def simulate_domain(folder: Path, snr: float, seed: int, tilt: float = 60.0) -> Subtomograms:
    ranges = replace(lab_protocol(), snr=(snr, snr), shift_voxels=(-1.0, 1.0), max_tilt_deg=(tilt, tilt))
    config = SubtomogramSetConfig(CLASSES, per_class=24, box_size=24, ranges=ranges, max_neighbors=0, seed=seed)
    return simulate_subtomograms(replace(config, voxel_spacing_angstrom=16.0), folder)


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> TrainingSets:
    """Source at SNR 1, target at SNR 0.3 and a narrower tilt range; validation holds the target's truth."""
    folder = tmp_path_factory.mktemp("domains")
    source, target = simulate_domain(folder / "source", 1.0, 1), simulate_domain(folder / "target", 0.3, 2, 45.0)
    return TrainingSets(source, target.with_labels(np.full(len(target), ""), CLASSES), target)


def build_objective(data: TrainingSets, **changes: object) -> tuple[DomainAdversarialObjective, PairedBatch]:
    torch.manual_seed(0)
    card = ModelCard("radial", data.voxel_spacing_angstrom, data.box_size, class_names=data.class_names)
    config = replace(SHORT, **changes)
    classifier = Classifier(Embedder(build_encoder("radial"), Recentering()), card)
    objective = DomainAdversarialObjective(classifier, config, config.training.steps, bool(config.structures)).train()
    rows = np.arange(12)
    return objective, PairedBatch((read_batch(data.labeled, rows), read_batch(data.unlabeled, rows)))


def largest_gradient(module: torch.nn.Module) -> float:
    return max((float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None), default=0.0)


def test_the_warp_learns_from_the_image_discriminator_alone(domains: TrainingSets) -> None:
    objective, batch = build_objective(domains)
    objective.stage = "joint"
    losses = objective(batch, torch.Generator().manual_seed(0))
    (losses["classes"] + losses["features"]).backward(retain_graph=True)
    assert largest_gradient(objective.warp) == 0
    losses["images"].backward()
    assert largest_gradient(objective.warp) > 0


@pytest.mark.parametrize(("structures", "searches"), [((), 2), (CLASSES, 3)])
def test_centers_are_searched_once_but_in_subtomograms_that_are_simulated_at_every_step(
    structures: tuple[str, ...], searches: int, domains: TrainingSets, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, batch = build_objective(domains, structures=structures)
    objective.stage = "joint"
    recentering, sizes = objective.classifier.recentering, []
    estimate = recentering.estimate_offsets
    monkeypatch.setattr(recentering, "estimate_offsets", lambda volume: sizes.append(len(volume)) or estimate(volume))
    for _ in range(2):
        objective(batch, torch.Generator().manual_seed(0))
    assert sizes == [12] * searches


def test_each_stage_trains_what_it_is_for(domains: TrainingSets) -> None:
    for stage, trained in (("source", {"classifier"}), ("images", {"image_discriminator"})):
        objective, batch = build_objective(domains)
        objective.stage = stage
        objective(batch, torch.Generator().manual_seed(0))["loss"].backward()
        changed = {name for name, module in objective.named_children() if largest_gradient(module) > 0}
        assert changed == trained


@pytest.mark.parametrize("features", ["class-wise", "single", "covariance", "none"])
def test_labels_of_the_target_change_nothing(features: Features, domains: TrainingSets, tmp_path: Path) -> None:
    config = replace(SHORT, features=features)
    blind = methods.train("domain_adversarial", config, domains, tmp_path / "blind", 0)
    labeled = replace(domains, unlabeled=domains.validation)
    sighted = methods.train("domain_adversarial", config, labeled, tmp_path / "sighted", 0)
    for name, value in blind.state_dict().items():
        assert torch.equal(value, sighted.state_dict()[name]), name


@pytest.mark.parametrize("at", [2, 6, 11])
def test_resumed_in_any_stage_it_ends_in_the_weights_of_an_uninterrupted_run(
    at: int, domains: TrainingSets, tmp_path: Path
) -> None:
    whole = methods.train("domain_adversarial", SHORT, domains, tmp_path / "whole", 3)
    calls = 0

    def progress(step: int, steps: int, note: str = "") -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        methods.train("domain_adversarial", SHORT, domains, tmp_path / "parts", 3, progress)
    resumed = methods.train("domain_adversarial", SHORT, domains, tmp_path / "parts", 3)
    assert resumed.card == whole.card
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_source_is_simulated_where_structures_are_given(domains: TrainingSets, tmp_path: Path) -> None:
    nothing = domains.labeled.empty()
    data = replace(domains, labeled=nothing, validation=nothing)
    config = replace(SHORT, structures=CLASSES[:2], warps=False)
    model = methods.train("domain_adversarial", config, data, tmp_path / "run", 0)
    assert model.card.class_names == CLASSES[:2]


def test_a_model_that_has_the_classes_skips_the_stage_of_the_source(domains: TrainingSets, tmp_path: Path) -> None:
    methods.train("domain_adversarial", replace(SHORT, warps=False), domains, tmp_path / "first", 0)
    again = replace(SHORT, init=tmp_path / "first", warps=False)
    methods.train("domain_adversarial", again, domains, tmp_path / "second", 0)
    assert (tmp_path / "first" / "source").exists()
    assert not (tmp_path / "second" / "source").exists()


def test_too_little_of_either_domain_is_one_sentence(domains: TrainingSets, tmp_path: Path) -> None:
    nothing = domains.labeled.empty()
    with pytest.raises(ValueError, match="source set names fewer than 2 classes"):
        methods.train("domain_adversarial", SHORT, replace(domains, labeled=nothing), tmp_path / "a", 0)
    with pytest.raises(ValueError, match="target set has 0 subtomograms"):
        methods.train("domain_adversarial", SHORT, replace(domains, unlabeled=nothing), tmp_path / "b", 0)
    config = replace(SHORT, structures=("apoferritin",))
    with pytest.raises(ValueError, match="structures name only apoferritin"):
        methods.train("domain_adversarial", config, domains, tmp_path / "c", 0)
    assert not any((tmp_path / name).exists() for name in "abc")
