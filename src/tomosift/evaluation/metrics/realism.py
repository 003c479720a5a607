"""How similar generated subtomograms (simulated, or maps with a measured appearance) are to measured ones.

The measure that matters is none of these: it is the accuracy on measured subtomograms of a classifier trained on the
generated ones. These metrics help to find the cause where that accuracy is low.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

NEAREST = 5
"""k of `prdc`, as in the field's use of it."""
_FOLDS = 5
_COMPONENTS = 20


@dataclass(frozen=True)
class Prdc:
    """How two sets of points cover each other."""

    precision: float
    """Share of generated points within the reach of some measured one: fidelity."""
    recall: float
    """Share of measured points within the reach of some generated one: variety."""
    density: float
    """Mean number of measured points within whose reach a generated one lies, over k; robust against outliers."""
    coverage: float
    """Share of measured points with a generated one within reach."""


def prdc(measured: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"], k: int = NEAREST) -> Prdc:
    """Compute precision, recall, density and coverage.

    Parameters
    ----------
    measured, generated
        Features of n measured and m generated subtomograms.
    k
        The reach of a point is its distance to its k-th neighbor of the same kind.

    Raises
    ------
    ValueError
        Either kind has no more than ``k`` points.

    Source: Kynkaanniemi et al. 2019, "Improved precision and recall metric for assessing generative models", and
    Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", eqs. 3 to 6.

    Examples
    --------
    >>> points = np.random.default_rng(0).normal(size=(50, 2))
    >>> prdc(points, points).coverage
    1.0
    """
    from scipy.spatial.distance import cdist

    for name, points in (("measured", measured), ("generated", generated)):
        if len(points) <= k:
            raise ValueError(f"{len(points)} {name} subtomograms, expected more than k = {k}")
    # The first neighbor of a point is the point itself.
    reach = np.partition(cdist(measured, measured), k, axis=1)[:, k]
    generated_reach = np.partition(cdist(generated, generated), k, axis=1)[:, k]
    distance = cdist(measured, generated)
    within = distance < reach[:, None]
    return Prdc(
        precision=float(within.any(axis=0).mean()),
        recall=float((distance < generated_reach).any(axis=1).mean()),
        density=float(within.sum(axis=0).mean() / k),
        coverage=float((distance.min(axis=1) < reach).mean()),
    )


def radial_power(volume: Float[np.ndarray, "n d d d"]) -> Float[np.ndarray, " s"]:
    """Return the mean power in shells of Fourier space, each one Fourier voxel thick, from the first to Nyquist."""
    size = volume.shape[-1]
    along = np.fft.fftfreq(size) * size
    shell = np.rint(np.sqrt(along[:, None, None] ** 2 + along[:, None] ** 2 + along**2)).astype(int).ravel()
    power = sum(np.abs(np.fft.fftn(one)).ravel() ** 2 for one in volume) / len(volume) / volume[0].size
    sums = np.bincount(shell, np.asarray(power)) / np.bincount(shell)
    return np.asarray(sums[1 : size // 2 + 1], dtype=np.float64)


def spectrum_distance(measured: Float[np.ndarray, "n d d d"], generated: Float[np.ndarray, "m d d d"]) -> float:
    """Return the root mean square difference of log10 radial power over shells; 0.3 is a factor of two."""
    floor = 1e-6  # of the mean power of a normalized box; below it both were filtered to nothing
    first, second = (np.log10(radial_power(volume) + floor) for volume in (measured, generated))
    return float(np.sqrt(np.mean((first - second) ** 2)))


def autocorrelation(volume: Float[np.ndarray, "n d d d"], reach: int = 4) -> Float[np.ndarray, "3 r"]:
    """Return the mean correlation of voxels with those 1 to ``reach`` voxels away along z, y and x."""
    centered = volume - volume.mean(axis=(1, 2, 3), keepdims=True)
    variance = np.mean(centered**2)
    correlation = np.empty((3, reach))
    for axis in range(3):
        along = np.moveaxis(centered, axis + 1, 1)
        for step in range(1, reach + 1):
            correlation[axis, step - 1] = np.mean(along[:, step:] * along[:, :-step]) / max(float(variance), 1e-12)
    return correlation


def two_sample_auroc(measured: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"], seed: int = 0) -> float:
    """Return the out-of-fold AUROC of a linear classifier of measured against generated features.

    0.5 is chance; 1 means that the kinds are separable.

    Raises
    ------
    ValueError
        There are fewer subtomograms of either kind than folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if min(len(measured), len(generated)) < _FOLDS:
        counts = f"{len(measured)} measured and {len(generated)} generated subtomograms"
        raise ValueError(f"{counts}, expected {_FOLDS} or more of each")
    points = np.concatenate((measured, generated))
    is_measured = np.arange(len(points)) < len(measured)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, points, is_measured, cv=folds, method="decision_function")
    return float(roc_auc_score(is_measured, scores))


@dataclass(frozen=True)
class RealismScores:
    """How similar generated subtomograms are to measured ones."""

    embeddings: Prdc
    """Of embeddings, reduced to few dimensions, in which distances are meaningful."""
    voxels: Prdc
    """Of voxels, as the field reports it; noise dominates their distances."""
    two_sample_auroc: float
    spectrum: float
    autocorrelation: float
    """Largest difference of the correlations of voxels up to four apart."""


def score_realism(
    measured: Float[np.ndarray, "n d d d"],
    generated: Float[np.ndarray, "m d d d"],
    measured_embedding: Float[np.ndarray, "n e"],
    generated_embedding: Float[np.ndarray, "m e"],
    seed: int = 0,
) -> RealismScores:
    """Compare generated subtomograms with held-out measured ones.

    Parameters
    ----------
    measured, generated
        Subtomograms, zyx.
    measured_embedding, generated_embedding
        Their embeddings by one model.
    seed
        Of the folds of `two_sample_auroc`.

    Raises
    ------
    ValueError
        There are too few of either kind; see `prdc` and `two_sample_auroc`.
    """
    first, second = reduce_dimensions(measured_embedding, generated_embedding)
    difference = autocorrelation(measured) - autocorrelation(generated)
    return RealismScores(
        embeddings=prdc(first, second),
        voxels=prdc(measured.reshape(len(measured), -1), generated.reshape(len(generated), -1)),
        two_sample_auroc=two_sample_auroc(first, second, seed),
        spectrum=spectrum_distance(measured, generated),
        autocorrelation=float(np.abs(difference).max()),
    )


def reduce_dimensions(
    first: Float[np.ndarray, "n f"], second: Float[np.ndarray, "m f"]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return both sets of features in the principal components of their union, standardized before.

    Distances between a few hundred points are meaningful in these few dimensions.
    """
    from sklearn.decomposition import PCA

    both = np.concatenate((first, second)).astype(np.float64)
    both = (both - both.mean(axis=0)) / np.maximum(both.std(axis=0), 1e-6)
    reduced = PCA(min(_COMPONENTS, *both.shape), random_state=0).fit_transform(both)
    return reduced[: len(first)], reduced[len(first) :]
