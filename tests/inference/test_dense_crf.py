"""The dense random field equals its definition, written as sums over voxels, and smooths masks."""

import numpy as np
import torch

from tomosift.inference.dense_crf import CrfConfig, refine_masks

SIZE = 5


def by_sums(probability: np.ndarray, volume: np.ndarray, settings: CrfConfig) -> np.ndarray:
    position = np.indices(probability.shape).reshape(3, -1).T
    gray = ((volume - volume.min()) / (volume.max() - volume.min()) * 255).ravel()
    apart = ((position[:, None] - position) ** 2).sum(2)
    near = np.exp(-apart / (2 * settings.position_std_voxels**2))
    alike = (gray[:, None] - gray) ** 2 / (2 * settings.gray_std**2)
    both = np.exp(-apart / (2 * settings.bilateral_std_voxels**2) - alike)
    q = np.stack([1 - probability.ravel(), probability.ravel()])
    unary = np.log(q)
    for _ in range(settings.iterations):
        message = 0
        for weight, kernel in ((settings.position_weight, near), (settings.bilateral_weight, both)):
            k = kernel - np.diag(np.diag(kernel))
            norm = 1 / np.sqrt(k.sum(1))
            message = message + weight * ((q * norm) @ k) * norm
        q = np.exp(unary + message)
        q /= q.sum(0)
    return q[1].reshape(probability.shape)


def test_mean_field_inference_follows_its_definition() -> None:
    rng = np.random.default_rng(0)
    volume, probability = rng.normal(size=(2, SIZE, SIZE, SIZE)), rng.uniform(0.2, 0.8, size=(2, SIZE, SIZE, SIZE))
    settings = CrfConfig(1.0, 1.5, 2.0, 2.0, 50.0, 3)
    refined = refine_masks(torch.tensor(probability), torch.tensor(volume), settings).numpy()
    expected = np.stack([by_sums(p, v, settings) for p, v in zip(probability, volume, strict=True)])
    np.testing.assert_allclose(refined, expected, atol=0.01)  # gray levels are interpolated


def test_isolated_voxels_take_the_label_of_their_surroundings_and_the_argument_stays() -> None:
    probability = torch.full((1, 8, 8, 8), 0.1)
    probability[0, 2:6, 2:6, 2:6] = 0.9
    volume = probability.clone()
    probability[0, 3, 3, 3], probability[0, 0, 0, 7] = 0.3, 0.7
    before = probability.clone()
    refined = refine_masks(probability, volume, CrfConfig(1.0, 1.0, 3.0, 4.0, 20.0))
    assert float(refined[0, 3, 3, 3]) > 0.5 > float(refined[0, 0, 0, 7])
    assert torch.equal(probability, before)
