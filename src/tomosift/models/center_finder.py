"""The center finder: a small network that locates a particle in its box, trained once on synthetic complexes.

Its weights are shipped and the same for every user: like a filter, they are no part of what a method learns. The script
``scripts/train_weights/center_finder.py`` makes them; ``center_finder.json`` beside them records from what.
"""

import hashlib
from functools import lru_cache
from importlib import resources
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = "center_finder.safetensors"
INPUT_GRID = 16
"""Edge of the grid to which boxes of any size are cropped in Fourier space for the network."""
CENTER_GRID = 2 * INPUT_GRID
"""Grid points along each axis that are candidates for the center; point i lies i / CENTER_GRID of the box edge from
voxel 0."""

SMOOTHING = 1 / CENTER_GRID
"""Standard deviation, in box edges, of the Gaussian about the true center that is the target of training."""


def fourier_crop(volume: Float[Tensor, "b d d d"], edge: int = INPUT_GRID) -> Float[Tensor, "b e e e"]:
    """Crop the spectra of volumes to a grid of ``edge`` voxels with the same voxel 0, and normalize the result.

    On the grid of `INPUT_GRID` voxels subtomograms of SNR 0.1 keep nearly all information about their centers.

    Parameters
    ----------
    volume
        Of d >= ``edge`` voxels.
    edge
        Edge e of the result.

    Returns
    -------
    Tensor
        (b, e, e, e) of zero mean and unit variance each.
    """
    size, half = volume.shape[-1], edge // 2
    spectrum = torch.fft.rfftn(volume.float(), dim=(1, 2, 3))
    if size > edge:
        kept = torch.cat([torch.arange(half), torch.arange(size - half, size)]).to(volume.device)
        spectrum = spectrum.index_select(1, kept).index_select(2, kept)[..., : half + 1]
    small: Tensor = torch.fft.irfftn(spectrum, s=(edge, edge, edge), dim=(1, 2, 3))
    small = small - small.mean(dim=(1, 2, 3), keepdim=True)
    normalized: Tensor = small / small.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1e-6)
    return normalized


class _Block(nn.Module):
    """Residual block of two convolutions with group normalization."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv3d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.shortcut = nn.Conv3d(inputs, outputs, 1, stride, bias=False) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class CenterFinder(nn.Module):
    """Network from cropped boxes to the log likelihood of each center candidate, up to a constant; ours.

    Three scales, down and up again.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 16, 5, 1, 2, bias=False)
        self.norm = nn.GroupNorm(8, 16)
        self.down1 = nn.Sequential(_Block(16, 32, 2), _Block(32, 32))
        self.down2 = nn.Sequential(_Block(32, 64, 2), _Block(64, 64), _Block(64, 64))
        self.up1 = nn.Conv3d(64, 32, 1)
        self.block1 = _Block(32, 32)
        self.up0 = nn.Conv3d(32, 16, 1)
        self.norm0 = nn.GroupNorm(8, 16)
        self.out = nn.Conv3d(16, 8, 3, 1, 1)

    def forward(self, small: Float[Tensor, "b 16 16 16"]) -> Float[Tensor, "b 32 32 32"]:
        return self.decode(self.stem(small[:, None]))

    def decode(self, features: Float[Tensor, "b 16 16 16 16"]) -> Float[Tensor, "b 32 32 32"]:
        """Compute the output from the features of the first convolution."""
        fine = functional.relu(self.norm(features))
        coarse = self.down1(fine)
        coarse = self.block1(coarse + functional.interpolate(self.up1(self.down2(coarse)), scale_factor=2.0))
        logits = self.out(
            functional.relu(self.norm0(fine + functional.interpolate(self.up0(coarse), scale_factor=2.0)))
        )
        # Eight channels are the eight grid points within a voxel of the input.
        pairs: Tensor = logits.reshape(-1, 2, 2, 2, *3 * (INPUT_GRID,)).permute(0, 4, 1, 5, 2, 6, 3)
        return pairs.reshape(-1, *3 * (CENTER_GRID,))


def weights_path() -> Path:
    """Return the path of the shipped weights."""
    return Path(str(resources.files("tomosift.models"))) / "weights" / WEIGHTS


@lru_cache(maxsize=1)
def finder_digest() -> str:
    """Return the checksum of the shipped weights, by which the subtomograms of every training were recentered."""
    return hashlib.sha256(weights_path().read_bytes()).hexdigest()


@lru_cache(maxsize=4)
def center_finder(device: torch.device | None = None) -> CenterFinder:
    """Return the trained network on a device, ready to evaluate."""
    # The initial weights are overwritten, but drawing them must not disturb the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        finder = CenterFinder()
    finder.load_state_dict({name: value.float() for name, value in load_file(weights_path()).items()})
    return finder.requires_grad_(False).to(device).eval()
