"""A small network that says where in its box a particle lies, trained once on complexes that do not exist.

Its weights come with the program and are the same for every user, so that it is a tool like a filter and no part of
what a method learns. `benchmarks/center_finder.py` makes them; ``center_finder.json`` beside them says from what.
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
COARSE = 16
"""Edge of the grid on which the network looks at a box, whatever the size of that."""
PLACES = 2 * COARSE
"""Places along each axis for which it answers: place i lies i / PLACES of the box edge from voxel 0."""

SMOOTHING = 1 / PLACES
"""Width (standard deviation, in shares of the box edge) of the answer that training asked for about the true place."""


def fourier_crop(volume: Float[Tensor, "b d d d"], edge: int = COARSE) -> Float[Tensor, "b e e e"]:
    """Boxes on a grid of ``edge`` voxels, no more than there are, with the same voxel 0: what is finer is cut off.

    On the grid of `COARSE` voxels boxes of SNR 0.1 lose next to nothing about where the particle lies. Mean 0 and
    variance 1 each.
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
    """Coarse boxes to the log-likelihood of each place, up to a constant: three scales, down and up again; ours."""

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
        return self.places(self.stem(small[:, None]))

    def places(self, stemmed: Float[Tensor, "b 16 16 16 16"]) -> Float[Tensor, "b 32 32 32"]:
        """From what the first convolution gives to the answer."""
        fine = functional.relu(self.norm(stemmed))
        middle = self.down1(fine)
        middle = self.block1(middle + functional.interpolate(self.up1(self.down2(middle)), scale_factor=2.0))
        logits = self.out(
            functional.relu(self.norm0(fine + functional.interpolate(self.up0(middle), scale_factor=2.0)))
        )
        # Eight channels are the eight places within a coarse voxel.
        pairs: Tensor = logits.reshape(-1, 2, 2, 2, COARSE, COARSE, COARSE).permute(0, 4, 1, 5, 2, 6, 3)
        return pairs.reshape(-1, PLACES, PLACES, PLACES)


def weights_path() -> Path:
    """Where the weights lie that come with the program."""
    return Path(str(resources.files("tomosift.models"))) / "weights" / WEIGHTS


@lru_cache(maxsize=1)
def finder_digest() -> str:
    """Checksum of those weights; a model that was trained behind other ones would see boxes it does not know."""
    return hashlib.sha256(weights_path().read_bytes()).hexdigest()


@lru_cache(maxsize=4)
def center_finder(device: torch.device | None = None) -> CenterFinder:
    """The trained network on a device, ready to evaluate."""
    # The initial weights are overwritten, but drawing them must not disturb the caller's random numbers.
    with torch.random.fork_rng(devices=[]):
        finder = CenterFinder()
    finder.load_state_dict({name: value.float() for name, value in load_file(weights_path()).items()})
    return finder.requires_grad_(False).to(device).eval()
