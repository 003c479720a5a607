"""Rows of the benchmark that change one thing about pretraining: what each choice of the default recipe is worth."""

from collections.abc import Callable
from dataclasses import replace

from tomosift.evaluation.benchmark.task import BenchmarkTask, EntryResult, from_pretrained
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
"""Augmentation groups that are off in contrastive pretraining by default, and what switches them on."""

PRETRAINING_SIZES = (500, 1000)
"""Particles that pretraining sees instead of all."""

Rows = dict[str, tuple[str, Callable[[BenchmarkTask], EntryResult]]]


def _augmentations() -> Rows:
    rows: Rows = {}
    for group, off in ABLATION_GROUPS.items():
        if group not in SWITCHED_ON:
            config = Contrastive(views=replace(CONTRASTED, **off))  # type: ignore[arg-type]
            name = f"without-{group}"
            rows[name] = (f"As cssl, but without the augmentation group {group}.", from_pretrained(config, name))
    for group, on in SWITCHED_ON.items():
        config = Contrastive(views=replace(CONTRASTED, **on))  # type: ignore[arg-type]
        name = f"with-{group}"
        rows[name] = (f"As cssl, but with the augmentation group {group}.", from_pretrained(config, name))
    return rows


ABLATIONS: Rows = {
    **_augmentations(),
    "moco": (
        "As cssl, but with momentum contrast and a queue instead of NT-Xent.",
        from_pretrained(Contrastive(framework="moco"), "moco"),
    ),
    "sectors": (
        "As cssl, but with views of independent noise, from alternating Fourier sectors.",
        from_pretrained(Contrastive(independent_noise="sectors"), "sectors"),
    ),
    **{
        f"pretrained-{size}": (
            f"As cssl, but pretrained on {size} particles.",
            from_pretrained(Contrastive(), f"pretrained-{size}", size),
        )
        for size in PRETRAINING_SIZES
    },
    **{
        f"cssl-{name.replace('_', '-')}": (
            f"As cssl, but with the encoder {name}.",
            from_pretrained(Contrastive(encoder=name), f"contrastive-{name}"),
        )
        for name in ENCODERS
        if name != Contrastive().encoder
    },
}
"""Name of each row, what it is, and how it answers."""
