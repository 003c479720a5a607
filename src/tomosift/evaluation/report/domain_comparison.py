"""Source and target domain before and after adaptation, as a report shows them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class DomainComparison:
    """Subtomograms of both domains and their embeddings."""

    volumes: dict[str, Float[np.ndarray, "_ d d d"]]
    """Some subtomograms of each kind, such as source, warped source and target."""
    before: tuple[Float[np.ndarray, "n e"], Float[np.ndarray, "m e"]]
    """Embeddings of source and target by the model from which adaptation started."""
    after: tuple[Float[np.ndarray, "n f"], Float[np.ndarray, "m f"]]
    """The same by the adapted model."""
