"""How real do made boxes look? Judges of a set of simulated or translated boxes against measured ones.

None of them is the one that matters, how well a classifier trained on the made boxes names measured ones; they say
where to look when it does badly.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage

NEAREST = 5
"""k of `prdc`, as in the field's use of it."""
_SSIM_WIDTH, _SSIM_LUMINANCE, _SSIM_CONTRAST = 1.5, 0.01, 0.03
_FOLDS = 5
_COMPONENTS = 20


@dataclass(frozen=True)
class Prdc:
    """How two clouds of points cover each other."""

    precision: float
    """Share of made points within the reach of some measured one: fidelity."""
    recall: float
    """Share of measured points within the reach of some made one: variety."""
    density: float
    """Mean number of measured points within whose reach a made one lies, over k; an outlier does not spoil it."""
    coverage: float
    """Share of measured points with a made one within reach."""


def prdc(measured: Float[np.ndarray, "n f"], made: Float[np.ndarray, "m f"], k: int = NEAREST) -> Prdc:
    """Precision, recall, density and coverage; the reach of a point is its distance to its k-th neighbor of its kind.

    Source: Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models", and
    Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", eqs. 3 to 6.

    Raises
    ------
    ValueError
        When either cloud has no more than ``k`` points.
    """
    from scipy.spatial.distance import cdist

    for name, points in (("measured", measured), ("made", made)):
        if len(points) <= k:
            raise ValueError(f"{len(points)} {name} boxes, expected more than k = {k}")
    # Its own distance, zero, is the first.
    reach = np.partition(cdist(measured, measured), k, axis=1)[:, k]
    made_reach = np.partition(cdist(made, made), k, axis=1)[:, k]
    distance = cdist(measured, made)
    within = distance < reach[:, None]
    return Prdc(
        precision=float(within.any(axis=0).mean()),
        recall=float((distance < made_reach).any(axis=1).mean()),
        density=float(within.sum(axis=0).mean() / k),
        coverage=float((distance.min(axis=1) < reach).mean()),
    )


def radial_power(volume: Float[np.ndarray, "n d d d"]) -> Float[np.ndarray, " s"]:
    """Mean power of boxes in shells of Fourier space one voxel of it thick, from the first to Nyquist."""
    size = volume.shape[-1]
    along = np.fft.fftfreq(size) * size
    shell = np.rint(np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2)).astype(int).ravel()
    power = sum(np.abs(np.fft.fftn(one)).ravel() ** 2 for one in volume) / len(volume) / volume[0].size
    sums = np.bincount(shell, np.asarray(power)) / np.bincount(shell)
    return np.asarray(sums[1 : size // 2 + 1], dtype=np.float64)


def spectrum_distance(measured: Float[np.ndarray, "n d d d"], made: Float[np.ndarray, "m d d d"]) -> float:
    """Root mean square difference of the logarithms (base 10) of radial power, over shells: 0.3 is a factor of two."""
    floor = 1e-6  # of a normalized box's mean power; what both have filtered away is the same
    first, second = (np.log10(radial_power(each) + floor) for each in (measured, made))
    return float(np.sqrt(np.mean((first - second) ** 2)))


def autocorrelation(volume: Float[np.ndarray, "n d d d"], reach: int = 4) -> Float[np.ndarray, "3 r"]:
    """Mean correlation of voxels with those 1 to ``reach`` away along z, y and x; of empty boxes it is the noise's."""
    centered = volume - volume.mean(axis=(1, 2, 3), keepdims=True)
    variance = np.mean(centered**2)
    found = np.empty((3, reach))
    for axis in range(3):
        along = np.moveaxis(centered, axis + 1, 1)
        for step in range(1, reach + 1):
            found[axis, step - 1] = np.mean(along[:, step:] * along[:, :-step]) / max(float(variance), 1e-12)
    return found


def psnr(reference: Float[np.ndarray, "d d d"], made: Float[np.ndarray, "d d d"]) -> float:
    """Peak signal-to-noise ratio in dB; the peak is the range of the reference. For pairs of the same particle."""
    error = float(np.mean((np.asarray(reference, dtype=np.float64) - made) ** 2))
    return float("inf") if error == 0 else float(20 * np.log10(np.ptp(reference)) - 10 * np.log10(error))


def ssim(reference: Float[np.ndarray, "d d d"], made: Float[np.ndarray, "d d d"]) -> float:
    """Mean structural similarity in three dimensions, 1 for equal boxes; for pairs of the same particle.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13, with a
    Gaussian window of 1.5 voxels; its constants count in the range of the reference.
    """

    def blurred(volume: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.gaussian_filter(volume, _SSIM_WIDTH, truncate=3.5))

    x, y = np.asarray(reference, dtype=np.float64), np.asarray(made, dtype=np.float64)
    span = float(np.ptp(x))
    light, contrast = (_SSIM_LUMINANCE * span) ** 2, (_SSIM_CONTRAST * span) ** 2
    mean_x, mean_y = blurred(x), blurred(y)
    spread = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
    shared = blurred(x * y) - mean_x * mean_y
    similar = (2 * mean_x * mean_y + light) * (2 * shared + contrast)
    return float(np.mean(similar / ((mean_x**2 + mean_y**2 + light) * (spread + contrast))))


def two_sample_accuracy(measured: Float[np.ndarray, "n f"], made: Float[np.ndarray, "m f"], seed: int = 0) -> float:
    """AUROC of a classifier that tells measured from made by features, on those it was not trained on.

    0.5 when it cannot, 1 when it always can.

    Raises
    ------
    ValueError
        When there are fewer boxes of either kind than folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(measured), len(made)) < _FOLDS:
        raise ValueError(f"{len(measured)} measured and {len(made)} made boxes, expected {_FOLDS} or more of each")
    points = np.concatenate((measured, made))
    is_measured = np.arange(len(points)) < len(measured)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    guessed = cross_val_predict(model, points, is_measured, cv=folds, method="decision_function")
    return float(roc_auc_score(is_measured, guessed))


@dataclass(frozen=True)
class RealismScores:
    """How real made boxes look, by several judges."""

    embedded: Prdc
    """By embeddings, reduced to what distances still mean something in."""
    raw: Prdc
    """By voxels, as the field states it; noise dominates distances there."""
    two_sample_accuracy: float
    spectrum: float
    autocorrelation: float
    """Largest difference of correlations of voxels up to four apart."""


def score_realism(
    measured: Float[np.ndarray, "n d d d"],
    made: Float[np.ndarray, "m d d d"],
    measured_embedding: Float[np.ndarray, "n e"],
    made_embedding: Float[np.ndarray, "m e"],
    seed: int = 0,
) -> RealismScores:
    """Made boxes by all judges, against measured ones on which nothing was fitted.

    Raises
    ------
    ValueError
        See `prdc` and `told_apart`.
    """
    first, second = reduce_dimensions(measured_embedding, made_embedding)
    difference = autocorrelation(measured) - autocorrelation(made)
    return RealismScores(
        embedded=prdc(first, second),
        raw=prdc(measured.reshape(len(measured), -1), made.reshape(len(made), -1)),
        two_sample_accuracy=two_sample_accuracy(first, second, seed),
        spectrum=spectrum_distance(measured, made),
        autocorrelation=float(np.abs(difference).max()),
    )


def reduce_dimensions(
    first: Float[np.ndarray, "n f"], second: Float[np.ndarray, "m f"]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Standardized main components of two clouds together, in which distances between a few hundred points still mean
    something."""
    from sklearn.decomposition import PCA

    both = np.concatenate((first, second)).astype(np.float64)
    both = (both - both.mean(axis=0)) / np.maximum(both.std(axis=0), 1e-6)
    found = PCA(min(_COMPONENTS, *both.shape), random_state=0).fit_transform(both)
    return found[: len(first)], found[len(first) :]
