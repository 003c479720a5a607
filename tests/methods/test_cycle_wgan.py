"""A generator from maps to subtomograms of another style, and the classifier trained on its output."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomosift import methods
from tomosift.data.batches import PairedBatch, read_batch
from tomosift.data.training_sets import TrainingSets
from tomosift.methods.cycle_wgan import Config
from tomosift.models.generator_files import load_generator
from tomosift.models.generators import GeneratorConfig
from tomosift.objectives.cycle_wgan import AdversarialLoss, CycleGanObjective
from tomosift.physics.imaging import lab_protocol
from tomosift.simulation.style_transfer import MAP_RANGES
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.simulation.synthetic_stream import StructureStream
from tomosift.train.loop import Training

CLASSES = ("ribosome-70s", "apoferritin")
SHORT = Config(
    structures=CLASSES,
    init=None,
    generator=GeneratorConfig(width=2, blocks=1),
    critic_width=2,
    pool_size=4,
    min_faithfulness=-1.0,
    training=Training(steps=7, batch_size=4, checkpoint_every=2),
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> TrainingSets:
    ranges = replace(lab_protocol(), snr=(0.2, 0.2), shift_voxels=(-1.0, 1.0), max_tilt_deg=(50.0, 50.0))
    config = SubtomogramSetConfig(CLASSES, 20, 16, ranges, 20.0, max_neighbors=0, seed=2)
    subtomograms = simulate_subtomograms(config, tmp_path_factory.mktemp("target") / "set")
    return TrainingSets.from_domains(subtomograms.empty(), subtomograms)


def build_objective(data: TrainingSets, **changes: object) -> tuple[CycleGanObjective, PairedBatch]:
    torch.manual_seed(0)
    config = replace(SHORT, **changes)
    objective = CycleGanObjective(config.generator, 16, config).train()
    maps = StructureStream(SubtomogramSetConfig(CLASSES, 1, 16, MAP_RANGES, 20.0, seed=1), 4).batch(0)
    measured = torch.from_numpy(data.unlabeled.volumes(range(20)))
    objective.initialize(measured, maps.volume, config.signal_share)
    return objective, PairedBatch((maps, read_batch(data.unlabeled, np.arange(4))))


def trained_parts(module: torch.nn.Module) -> set[str]:
    return {
        name
        for name, part in module.named_children()
        if any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
    }


@pytest.mark.parametrize("loss", ["wasserstein", "least-squares"])
def test_critics_and_generators_take_turns(loss: AdversarialLoss, target: TrainingSets) -> None:
    objective, batch = build_objective(target, adversarial_loss=loss, critic_steps=2)
    for step in range(6):
        objective.zero_grad(set_to_none=True)
        losses = objective(batch, torch.Generator().manual_seed(step))
        losses["loss"].backward()
        is_critic_step = step % 3 < 2
        assert trained_parts(objective) == (
            {"measured_critic", "map_critic"} if is_critic_step else {"to_measured", "to_map"}
        )
        assert ("diversity" in losses) != is_critic_step


def test_the_wasserstein_loss_is_signed_and_the_other_one_a_square(target: TrainingSets) -> None:
    objective, batch = build_objective(target)
    square, _ = build_objective(target, adversarial_loss="least-squares")
    for critic in (objective.measured_critic, square.measured_critic):
        torch.nn.init.zeros_(critic.layers[-1].weight)
        torch.nn.init.constant_(critic.layers[-1].bias, 3.0)
    losses = objective(batch, torch.Generator().manual_seed(0))
    assert losses["measured_critic"].item() == pytest.approx(0.0, abs=1e-6)
    assert losses["measured_penalty"].item() == pytest.approx(1.0, abs=1e-6)
    losses = square(batch, torch.Generator().manual_seed(0))
    assert losses["measured_critic"].item() == pytest.approx(0.5 * ((3 - 0.8) ** 2 + 9), rel=1e-5)


def test_critics_are_shown_older_subtomograms_as_well(target: TrainingSets) -> None:
    pool = build_objective(target)[0].measured_pool
    first = torch.arange(4.0)[:, None, None, None].expand(4, 16, 16, 16)
    assert torch.equal(pool.exchange(first, torch.Generator().manual_seed(0)), first)
    assert int(pool.count) == 4
    shown = pool.exchange(first + 10, torch.Generator().manual_seed(1))[:, 0, 0, 0].tolist()
    kept = pool.volume[:, 0, 0, 0].tolist()
    assert sorted(shown + kept) == [0, 1, 2, 3, 10, 11, 12, 13]
    assert 0 < sum(value < 10 for value in shown) < 4


@pytest.mark.parametrize("at", [1, 3, 6])
def test_resumed_it_ends_in_the_weights_of_an_uninterrupted_run(at: int, target: TrainingSets, tmp_path: Path) -> None:
    whole = methods.train("cycle_wgan", SHORT, target, tmp_path / "whole", 3)

    def progress(step: int, steps: int, note: str = "") -> None:
        if step == at:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        methods.train("cycle_wgan", SHORT, target, tmp_path / "parts", 3, progress)
    resumed = methods.train("cycle_wgan", SHORT, target, tmp_path / "parts", 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    first, second = (load_generator(tmp_path / name).generator.state_dict() for name in ("whole", "parts"))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_labels_of_the_target_change_nothing(target: TrainingSets, tmp_path: Path) -> None:
    labeled = target.unlabeled.with_labels(np.array([CLASSES[k % 2] for k in range(40)], dtype=object), CLASSES)
    blind = methods.train("cycle_wgan", SHORT, target, tmp_path / "blind", 0)
    sighted = methods.train("cycle_wgan", SHORT, replace(target, unlabeled=labeled), tmp_path / "sighted", 0)
    for name, value in blind.state_dict().items():
        assert torch.equal(value, sighted.state_dict()[name]), name


def test_a_run_that_does_not_keep_classes_stops_and_leaves_no_generator(target: TrainingSets, tmp_path: Path) -> None:
    config = replace(SHORT, signal_share=0.0, min_faithfulness=0.9)
    with pytest.raises(ValueError, match="do not show their class"):
        methods.train("cycle_wgan", config, target, tmp_path / "run", 0)
    assert not (tmp_path / "run" / "translator.json").exists()
    assert not (tmp_path / "run" / "result").exists()


def test_too_little_is_one_sentence(target: TrainingSets, tmp_path: Path) -> None:
    few = replace(target, unlabeled=target.unlabeled.select(np.arange(5)))
    for config, data, sentence in (
        (replace(SHORT, structures=("apoferritin",)), target, "structures name 1 classes, expected 2 or more"),
        (SHORT, few, "the target set has 5 subtomograms that lie within"),
        (replace(SHORT, training=replace(SHORT.training, devices=2)), target, "devices is 2, expected 1"),
    ):
        with pytest.raises(ValueError, match=sentence):
            methods.train("cycle_wgan", config, data, tmp_path / "run", 0)
    assert not (tmp_path / "run").exists()
