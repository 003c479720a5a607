"""Entries that change one choice of pretraining each."""

from dataclasses import replace
from functools import partial

from tomosift.evaluation.benchmark.entry import Entry
from tomosift.evaluation.benchmark.training import pretrain_and_train
from tomosift.methods.contrastive import CONTRASTED
from tomosift.methods.contrastive import Config as Contrastive
from tomosift.models.encoders import ENCODERS
from tomosift.physics.augmentation import ABLATION_GROUPS

SWITCHED_ON: dict[str, dict[str, object]] = {
    "scale": {"scale": (0.95, 1.05)},
    "ctf": {"defocus_probability": 0.5},
    "low-pass": {"low_pass_sigma_voxels": (0.0, 1.0)},
    "elastic": {"elastic_voxels": 0.5},
    "mirror": {"mirror": True},
}
"""Augmentation groups that are off in contrastive pretraining by default, and the settings that switch them on."""

PRETRAINING_SIZES = (500, 1000)
"""Numbers of particles in pretraining, instead of all."""


def _ablate(description: str, config: Contrastive, name: str, max_particles: int | None = None) -> Entry:
    """Return an entry that differs from ``cssl`` in its pretraining; ``name`` is that of the run."""
    run = partial(pretrain_and_train, config=config, name=name, max_particles=max_particles)
    return Entry(f"As cssl, but {description}.", run)


def _ablate_augmentations() -> dict[str, Entry]:
    entries = {}
    groups = [("without", group, off) for group, off in ABLATION_GROUPS.items() if group not in SWITCHED_ON]
    groups += [("with", group, on) for group, on in SWITCHED_ON.items()]
    for word, group, settings in groups:
        config = Contrastive(views=replace(CONTRASTED, **settings))  # type: ignore[arg-type]
        name = f"{word}-{group}"
        entries[name] = _ablate(f"{word} the augmentation group {group}", config, name)
    return entries


def _ablate_encoders() -> dict[str, Entry]:
    return {
        f"cssl-{name.replace('_', '-')}": _ablate(
            f"with the encoder {name}", Contrastive(encoder=name), f"contrastive-{name}"
        )
        for name in ENCODERS
        if name != Contrastive().encoder
    }


ENTRIES: dict[str, Entry] = {
    **_ablate_augmentations(),
    "moco": _ablate("with momentum contrast and a queue instead of NT-Xent", Contrastive(framework="moco"), "moco"),
    "sectors": _ablate(
        "with views of independent noise, from alternating Fourier sectors",
        Contrastive(independent_noise="sectors"),
        "sectors",
    ),
    **{
        f"pretrained-{size}": _ablate(
            f"pretrained on {size} particles", Contrastive(), f"pretrained-{size}", max_particles=size
        )
        for size in PRETRAINING_SIZES
    },
    **_ablate_encoders(),
}
