"""The same operations by other libraries. `ImportError` reports a library that is not installed."""

from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from tomosift.physics.augmentation import ViewRanges
from tomosift.physics.rotation import random_rotations, rotate

Augment = Callable[[Tensor], Tensor]

VIEWS = ViewRanges(
    rotation_max_deg=180.0,
    shift_voxels=2.0,
    scale=(0.9, 1.1),
    impose_wedge=False,
    noise_std=(0.0, 0.5),
    low_pass_sigma_voxels=(0.5, 1.0),
)
"""The views of all libraries: rotation, shift, scale in one trilinear resampling with zeros around, then white noise,
a Gaussian blur, and normalization to mean 0 and variance 1."""


class _Augmented(Dataset[Tensor]):
    """Boxes in the form of a loader, augmented one by one."""

    def __init__(self, volume: Tensor, transform: Augment) -> None:
        self.volume, self.transform = volume, transform

    def __len__(self) -> int:
        return len(self.volume)

    def __getitem__(self, row: int) -> Tensor:
        # TorchIO copies the whole batch, several times, where it gets a view of a part.
        return self.transform(self.volume[row : row + 1].clone())[0]


def _box_by_box(transform: Augment, workers: int) -> Augment:
    """Augment box by box, in this process or in persistent workers of a loader."""
    if workers == 0:
        return lambda volume: torch.cat([transform(box[None].clone()) for box in volume])
    loaders: dict[int, DataLoader[Tensor]] = {}

    def views(volume: Tensor) -> Tensor:
        if volume.data_ptr() not in loaders:
            each = -(-len(volume) // (4 * workers))
            loaders[volume.data_ptr()] = DataLoader(
                _Augmented(volume, transform), each, num_workers=workers, persistent_workers=True
            )
        return torch.cat(list(loaders[volume.data_ptr()]))

    return views


def torchio_views(threads: int, workers: int = 0) -> Augment:
    """Return views by TorchIO, box by box; blur differs along each axis, rotations are three uniform Euler angles."""
    import torchio
    from SimpleITK import ProcessObject

    ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    transform = torchio.Compose(
        [
            torchio.RandomAffine(
                scales=VIEWS.scale,
                degrees=VIEWS.rotation_max_deg,
                translation=VIEWS.shift_voxels,
                isotropic=True,
                default_pad_value=0.0,
                image_interpolation="linear",
            ),
            torchio.RandomNoise(std=VIEWS.noise_std),
            torchio.RandomBlur(std=VIEWS.low_pass_sigma_voxels),
            torchio.ZNormalization(),
        ]
    )
    return _box_by_box(transform, workers)


def monai_views(size: int, workers: int = 0) -> Augment:
    """Return views by MONAI, box by box; blur and scale differ along each axis, rotations are three Euler angles."""
    from monai.transforms import Compose, NormalizeIntensity, RandAffine, RandGaussianNoise, RandGaussianSmooth

    shrink = max(abs(1 - edge) for edge in VIEWS.scale)
    blur = VIEWS.low_pass_sigma_voxels
    transform = Compose(
        [
            RandAffine(
                prob=1.0,
                rotate_range=[np.pi] * 3,
                translate_range=[VIEWS.shift_voxels] * 3,
                scale_range=[shrink] * 3,
                mode="bilinear",
                padding_mode="zeros",
                cache_grid=True,
                spatial_size=(size, size, size),
            ),
            RandGaussianNoise(prob=1.0, std=VIEWS.noise_std[1], sample_std=True),
            RandGaussianSmooth(prob=1.0, sigma_x=blur, sigma_y=blur, sigma_z=blur),
            NormalizeIntensity(),
        ]
    )
    return _box_by_box(lambda box: transform(box).as_tensor(), workers)


def scipy_views(order: int) -> Augment:
    """Return views by scipy.ndimage, box by box, with our draws; splines of order 3 are more exact than trilinear."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)

    def one(box: NDArray[np.float32], rotation: NDArray[np.float64]) -> NDArray[np.float32]:
        inverse = rotation.T / rng.uniform(*VIEWS.scale)
        center = np.full(3, len(box) // 2)
        shift = rng.uniform(-VIEWS.shift_voxels, VIEWS.shift_voxels, 3)
        offset = center - inverse @ (center + shift)
        rotated = ndimage.affine_transform(box, inverse, offset, order=order, mode="constant", output=np.float32)
        noise = rng.standard_normal(box.shape, dtype=np.float32) * np.float32(rng.uniform(*VIEWS.noise_std))
        blurred = ndimage.gaussian_filter(rotated + noise, rng.uniform(*VIEWS.low_pass_sigma_voxels))
        result: NDArray[np.float32] = (blurred - blurred.mean()) / blurred.std()
        return result

    def views(volume: Tensor) -> Tensor:
        rotations = random_rotations(len(volume), generator, dtype=torch.float64).numpy()
        pairs = zip(volume.numpy(), rotations, strict=True)
        return torch.from_numpy(np.stack([one(box, rotation) for box, rotation in pairs]))

    return views


def plain_extraction(tomogram: Path, center_zyx_voxel: NDArray[np.int64], size: int, out: Path) -> None:
    """Extract by a plain loop: slices of a memory map, normalized, into one array of float16."""
    boxes = np.lib.format.open_memmap(out, "w+", np.float16, (len(center_zyx_voxel), size, size, size))
    with mrcfile.mmap(tomogram, mode="r", permissive=True) as file:
        for row, (z, y, x) in enumerate(center_zyx_voxel - size // 2):
            box = np.array(file.data[z : z + size, y : y + size, x : x + size], dtype=np.float32)
            boxes[row] = (box - box.mean(dtype=np.float64)) / box.std(dtype=np.float64)
    boxes.flush()


def lightly_loss(temperature: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the NT-Xent loss of lightly."""
    from lightly.loss import NTXentLoss

    loss: Callable[[Tensor, Tensor], Tensor] = NTXentLoss(temperature=temperature)
    return loss


def textbook_loss(temperature: float, first: Tensor, second: Tensor) -> Tensor:
    """Return the NT-Xent loss as published.

    Source: Chen et al. 2020, "A simple framework for contrastive learning of visual representations", equation 1.
    """
    both, count = torch.cat([first, second]), len(first)
    similar = torch.exp(functional.cosine_similarity(both[:, None], both[None], dim=2) / temperature)
    others = similar.sum(1) - similar.diagonal()
    partner = torch.cat([similar.diagonal(count), similar.diagonal(-count)])
    return -torch.log(partner / others).mean()


class TemplateMatching:
    """Normalized cross-correlation of a block with one template at one orientation after the other.

    The template is rotated, masked, normalized, transformed, multiplied and transformed back; the best score of each
    voxel is kept. A spherical mask does not change by rotation, so the local deviation is computed once.

    Source: Roseman 2003, "Particle finding in electron micrographs using a fast local correlation algorithm".
    """

    def __init__(self, block: Tensor, size: int) -> None:
        self.block, self.size = block, size
        self.template = torch.randn((size,) * 3, generator=torch.Generator().manual_seed(3))
        axis = torch.arange(size) - size // 2
        squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
        self.mask = (squared < (size // 2 - 1) ** 2).float()
        self.spectrum = torch.fft.rfftn(block)
        known = [torch.fft.irfftn(torch.fft.rfftn(part) * self._padded(self.mask).conj()) for part in (block, block**2)]
        mean, square = (part / self.mask.sum() for part in known)
        self.deviation = (square - mean**2).clamp(min=1e-6).sqrt()
        self.best = torch.full_like(block, -torch.inf)
        self.generator = torch.Generator().manual_seed(4)

    def _padded(self, template: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfftn(template, s=self.block.shape)
        return spectrum

    @torch.no_grad()
    def match_orientation(self) -> None:
        """Match one random orientation."""
        rotated = rotate(self.template[None], random_rotations(1, self.generator))[0]
        inside = rotated * self.mask
        inside = (inside - inside.sum() / self.mask.sum()) * self.mask
        inside = inside / inside.square().sum().sqrt() / self.mask.sum().sqrt()
        correlation = torch.fft.irfftn(self.spectrum * self._padded(inside).conj(), s=self.block.shape)
        torch.maximum(self.best, correlation / self.deviation, out=self.best)


def count_orientations(step_deg: float) -> int:
    """Return the number of rotations a step apart in SO(3), of volume 8 pi^2: 43,300 at 7 degrees, 7,000 at 12.85."""
    return round(8 * np.pi**2 / np.deg2rad(step_deg) ** 3)


def describe_missing(missing: ImportError) -> str:
    """Return a sentence on how to install a missing package."""
    package = str(missing.name or missing).split(".")[0]
    return f"skipped, no package {package}; pip install {package} (torchio and monai: pip install tomosift[bench])"
