"""Conformance of every encoder: each keeps the contract of the base class and of the table."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder
from tomosift.models.encoders import ENCODERS, build_encoder
from tomosift.models.encoders.residual import _halve
from tomosift.models.recentering import Recentering
from tomosift.physics.augmentation import normalize
from tomosift.physics.rotation import random_rotations

# Every parity and the borders; 31 and 32 lie on either side of what the unpadded encoder needs.
SIZES = (16, 17, 23, 31, 32, 45, 64)


def seeded(name: str, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return build_encoder(name)


def boxes(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, size, size, size, generator=torch.Generator().manual_seed(seed))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_every_entry_of_the_table_can_be_built() -> None:
    assert all(build_encoder(name).name == name for name in ENCODERS)
    assert all(sentence.endswith(".") for sentence in ENCODERS.values())


def test_unknown_encoder_is_named_with_the_alternatives() -> None:
    with pytest.raises(ValueError, match=r"encoder is 'resnet', expected one of .*rb3d"):
        build_encoder("resnet")


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", SIZES)
def test_any_box_size_gives_one_finite_embedding_of_the_stated_size(name: str, size: int) -> None:
    encoder = seeded(name).eval()
    with torch.inference_mode():
        embedding = encoder(boxes(1, size))
    assert embedding.shape == (1, encoder.embedding_size)
    assert bool(embedding.isfinite().all())


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [15, 65])
def test_boxes_out_of_range_are_refused_with_advice(name: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"box size is {size} voxels, but encoders take 16 to 64; extract"):
        seeded(name)(boxes(1, size))


@pytest.mark.parametrize("name", ENCODERS)
def test_embeddings_do_not_depend_on_the_batch(name: str) -> None:
    encoder, batch = seeded(name).eval(), boxes(3, 20)
    with torch.inference_mode():
        together = encoder(batch)
        alone = torch.cat([encoder(box[None]) for box in batch])
    # Matrix products of one row and of several are rounded differently, by how much depends on the processor.
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_same_seed_gives_same_weights_and_another_seed_others(name: str) -> None:
    one, two, other = (list(seeded(name, seed).parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ENCODERS)
def test_argument_is_left_untouched_and_every_weight_gets_a_gradient(name: str) -> None:
    encoder, batch = seeded(name).train(), boxes(4, 16)
    before = batch.clone()
    encoder(batch).square().sum().backward()
    assert torch.equal(batch, before)
    without = [key for key, p in encoder.named_parameters() if p.grad is None]
    assert not without


@pytest.mark.parametrize("name", ENCODERS)
def test_voxels_in_the_corners_of_the_box_have_no_effect(name: str) -> None:
    encoder, box = seeded(name).eval(), boxes(1, 16)
    other = box.clone()
    other[0, :2, :2, :2] += 100.0
    with torch.inference_mode():
        # Where the spectrum of the whole box is taken, rounding errors of the corners reach all coefficients.
        torch.testing.assert_close(encoder(box), encoder(other), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", [name for name in ENCODERS if seeded(name).pose_augmentation == "wedge"])
def test_encoders_whose_pose_augmentation_rotates_the_wedge_do_not_depend_on_the_pose(name: str) -> None:
    encoder = seeded(name).eval()
    points = 3 * torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    grid = torch.stack(torch.meshgrid(*[torch.arange(32.0) - 16] * 3, indexing="ij"), dim=-1)

    def blobs(centers: torch.Tensor) -> torch.Tensor:
        squared = (grid[None, None] - centers[:, :, None, None, None]).square().sum(-1)
        return normalize(torch.exp(-squared / 8).sum(1))

    rotated = points @ random_rotations(1, torch.Generator().manual_seed(1))[0].T
    with torch.inference_mode():
        embedder = Embedder(encoder, Recentering(1e-3))  # shifts found in whole voxels would depend on the pose
        one, two = embedder(blobs(points)), embedder(blobs(rotated))
    assert float((one - two).norm(dim=1).max()) < 0.1 * float((one[0] - one[1]).norm())


def test_published_encoders_have_their_published_numbers_of_parameters() -> None:
    assert parameters(seeded("rb3d")) == 115_904  # without the projection head, which belongs to the method
    assert parameters(seeded("dsrf3d_v2")) == 858_400


def test_parameters_of_a_concatenating_block_are_its_five_convolutions() -> None:
    block = [27 * 32 * 16 + 16, 32 * 16 + 16, 27 * 16 * 32 + 32, 32 * 16 + 16]
    stem = 27 * 32 + 32
    assert parameters(seeded("rb3d")) == stem + 4 * sum(block)


def test_widths_of_the_multi_kernel_encoder_are_those_of_its_branches() -> None:
    yopo = seeded("yopo").eval()
    sizes: dict[str, int] = {}
    yopo.norm0.register_forward_hook(lambda module, inputs, output: sizes.update(pooled=output.shape[1]))
    yopo.linear2.register_forward_hook(lambda module, inputs, output: sizes.update(hidden=inputs[0].shape[1]))
    with torch.inference_mode():
        embedding = yopo(boxes(1, 32))
    assert sizes == {"pooled": 290, "hidden": 546}
    assert embedding.shape[1] == yopo.embedding_size == 674


@pytest.mark.parametrize("size", [16, 17])
def test_halving_is_average_pooling(size: int) -> None:
    x = torch.randn(2, 3, size, size, size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_halve(x), functional.avg_pool3d(x, 2, ceil_mode=True))
