"""Model files of earlier versions: their names of fields and weights, and what these are called now."""

import re
from typing import Any

from torch import Tensor

FORMAT = 5
"""Version of the model card that is written."""

_FIELDS = {"unknown_below": "min_confidence", "unfamiliar_below": "min_similarity", "averages": "class_averages"}
_HEADS = {"discriminant": "plda"}
_WEIGHTS = {"encoder.spread": "recentering.picking_error"}
_PREFIXES = (
    (r"famil\w+\.", "similarity."),
    (r"averages\.outline", "class_averages.mask"),
    (r"averages\.", "class_averages."),
    (r"head\.as\w+\.", "head.query."),
    (r"head\.of\w+\.", "head.key."),
    (r"head\.gi\w+\.", "head.value."),
)
"""Patterns of earlier prefixes; the stems suffice, since no present weight begins with one of them."""


def upgrade_card(card: dict[str, Any]) -> dict[str, Any]:
    """The fields of a model card of format 4 in those of format 5; later cards are returned as they are."""
    if card.get("format") != 4:
        return card
    renamed = {_FIELDS.get(name, name): value for name, value in card.items()}
    return {**renamed, "head": _HEADS.get(renamed.get("head", "linear"), renamed.get("head", "linear")), "format": 5}


def upgrade_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model of any version under the names of this one."""
    return {_rename(name): value for name, value in weights.items()}


def _rename(name: str) -> str:
    """The present name of a weight."""
    for old, new in _PREFIXES:
        present, count = re.subn(rf"^{old}", new, name)
        if count:
            return present
    return _WEIGHTS.get(name, name)
