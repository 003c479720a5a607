"""The discriminator of active learning: labeled against unlabeled particles, by their embeddings."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from tomosift.learning.query_strategies import QueryConfig


def unlabeled_probability(
    embedding: NDArray[np.float32],
    labeled: NDArray[np.int64],
    unlabeled: NDArray[np.int64],
    settings: QueryConfig,
    seed: int,
) -> NDArray[np.float64]:
    """Train a discriminator of labeled and unlabeled particles; return its probability of being unlabeled.

    Parameters
    ----------
    embedding
        (n, e), standardized.
    labeled, unlabeled
        Rows of the two groups.
    settings
        Of the training.
    seed
        Of the initial weights and of the order of particles.

    Returns
    -------
    array
        (u,) probability of each of the unlabeled rows.

    Notes
    -----
    Source: see `tomosift.learning.query_strategies`.
    """
    x, rows = torch.from_numpy(embedding), torch.from_numpy(np.concatenate((labeled, unlabeled)))
    target = (torch.arange(len(rows)) >= len(labeled)).float()
    weight = torch.ones(len(rows))
    if settings.balanced:
        weight = torch.where(target > 0, len(rows) / (2 * len(unlabeled)), len(rows) / (2 * len(labeled)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = x.shape[1]
        model = nn.Sequential(nn.Linear(width, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))
        optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
        for _ in range(settings.epochs):
            for part in torch.split(torch.randperm(len(rows)), 128):
                logits = model(x[rows[part]])[:, 0]
                loss = functional.binary_cross_entropy_with_logits(logits, target[part], weight[part])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            with torch.no_grad():
                is_right = ((model(x[rows])[:, 0] > 0).float() == target).float()
                accuracy = float((is_right * weight).sum() / weight.sum())
            if accuracy > settings.stop_accuracy:
                break
        with torch.no_grad():
            return np.asarray(torch.sigmoid(model(x[torch.from_numpy(unlabeled)])[:, 0]).double().numpy())
