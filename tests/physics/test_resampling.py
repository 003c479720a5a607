"""The one resampling, against torch's own of volumes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tomosift.physics.resampling import trilinear
from tomosift.physics.rotation import random_rotations


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def reference(volume: Tensor, matrix: Tensor, offset: Tensor, size: int, displacement: Tensor | None = None) -> Tensor:
    """By grid_sample in three dimensions, in float64."""
    edge, (volume, matrix, offset) = volume.shape[-1], (each.double() for each in (volume, matrix, offset))
    p = torch.stack(torch.meshgrid(*[torch.arange(size, dtype=torch.float64)] * 3, indexing="ij"), -1)
    if displacement is not None:
        p = p + displacement.double()
    place = torch.einsum("bij,...zyxj->bzyxi" if displacement is None else "bij,bzyxj->bzyxi", matrix, p)
    grid = ((2 * (place + offset[:, None, None, None]) + 1) / edge - 1).flip(-1)
    return functional.grid_sample(volume[:, None], grid, align_corners=False)[:, 0]


def turns(n: int, edge: int, size: int, max_shift: float = 0.5) -> tuple[Tensor, Tensor]:
    """Rotations about the center with some scale, shifted by up to this share of the edge."""
    matrix = random_rotations(n, generator(1)) * torch.linspace(0.5, 2, n)[:, None, None] * (edge / size)
    moved = (torch.rand(n, 3, generator=generator(2)) - 0.5) * 2 * max_shift * edge
    return matrix, edge // 2 - (matrix @ torch.full((3,), float(size // 2))) + moved


@pytest.mark.parametrize(("edge", "size"), [*((n, n) for n in range(1, 10)), (32, 32), (33, 20), (24, 48), (97, 8)])
@pytest.mark.parametrize("max_shift", [0.1, 2.0])
def test_equals_the_resampling_of_volumes(edge: int, size: int, max_shift: float) -> None:
    volume = torch.randn(6, edge, edge, edge, generator=generator())
    matrix, offset = turns(6, edge, size, max_shift)
    expected = reference(volume, matrix, offset, size)
    torch.testing.assert_close(trilinear(volume, matrix, offset, size).double(), expected, atol=1e-3, rtol=0)
    exact = trilinear(volume.double(), matrix.double(), offset.double(), size)
    torch.testing.assert_close(exact, expected, atol=1e-9, rtol=0)


def test_a_displacement_field_deforms_the_result() -> None:
    volume = torch.randn(3, 12, 12, 12, generator=generator(), dtype=torch.float64)
    matrix, offset = (each.double() for each in turns(3, 12, 12))
    bent = torch.randn(3, 12, 12, 12, 3, generator=generator(3), dtype=torch.float64)
    found = trilinear(volume, matrix, offset, 12, bent)
    torch.testing.assert_close(found, reference(volume, matrix, offset, 12, bent), atol=1e-9, rtol=0)


@pytest.mark.parametrize("edge", [16, 17, 32, 64])
def test_whole_voxel_positions_keep_values(edge: int) -> None:
    volume = torch.randn(1, edge, edge, edge, generator=generator())
    quarter = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]])
    found = trilinear(volume, quarter, torch.tensor([[3.0, edge - 1.0, 0.0]]), edge)
    expected = torch.zeros_like(volume)
    expected[:, :-3] = volume[:, 3:].transpose(2, 3).flip(3)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("edge", [*range(1, 9), 16, 31])
def test_no_uninitialized_memory_is_read(edge: int) -> None:
    """Memory that was never written to is filled with what is not a number."""
    assert torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    matrix, offset = turns(64, edge, edge, 3.0)
    volume = torch.ones(64, edge, edge, edge)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan().all()
        found = trilinear(volume, matrix, offset, edge)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found.isfinite().all()


def test_an_expanded_source_equals_its_copies() -> None:
    volume = torch.randn(1, 16, 16, 16, generator=generator())
    matrix, offset = turns(5, 16, 16)
    shared = trilinear(volume.expand(5, -1, -1, -1), matrix, offset, 16)
    torch.testing.assert_close(shared, trilinear(volume.repeat(5, 1, 1, 1), matrix, offset, 16), atol=0, rtol=0)


@pytest.mark.parametrize(("count", "edge"), [(0, 8), (1, 32), (19, 32), (3, 64)])
@pytest.mark.parametrize("bent", [False, True])
def test_chunks_in_reused_memory_equal_the_result_with_gradient(count: int, edge: int, bent: bool) -> None:
    volume = torch.randn(count, edge, edge, edge, generator=generator())
    matrix, offset = turns(count, edge, edge)
    field = torch.randn(count, edge, edge, edge, 3, generator=generator(3)) if bent else None
    expected = trilinear(volume.requires_grad_(), matrix, offset, edge, field)
    assert expected.requires_grad
    with torch.no_grad():
        found = trilinear(volume, matrix, offset, edge, field)
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=0)


def test_gradients_are_those_of_finite_differences() -> None:
    volume = torch.randn(2, 4, 4, 4, generator=generator(), dtype=torch.float64, requires_grad=True)
    matrix, offset = (each.double().requires_grad_() for each in turns(2, 4, 4, 0.2))
    assert torch.autograd.gradcheck(lambda v, m, o: trilinear(v, m, o, 4), (volume, matrix, offset))
