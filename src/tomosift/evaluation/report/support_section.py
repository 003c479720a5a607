"""The section of a report that shows what classes were made from, and particles beside the example nearest to each."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray

from tomosift.evaluation.report.markup import escape, png_uri, section
from tomosift.evaluation.report.pictures import gray_levels, slab, slab_thickness, window
from tomosift.evaluation.report.report_input import ReportInput
from tomosift.inference.heads import PrototypeHead

SHOWN = 16
"""Particles beside their nearest example."""
EXAMPLES_SHOWN = 8
"""Examples of each class."""


@dataclass(frozen=True, eq=False)
class SupportExamples:
    """The m examples that a classifier was made from, for a report on n particles."""

    volumes: Float[np.ndarray, "m d d d"]
    label: Int[np.ndarray, " m"]
    nearest: Int[np.ndarray, " n"]
    """Example that each particle is most like, of any class."""
    masks: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None
    """Rows of the report to the voxels of each particle ``(b, d, d, d)``."""


@torch.inference_mode()
def nearest_examples(
    head: PrototypeHead, embeddings: Float[np.ndarray, "n e"], examples: Float[np.ndarray, "m e"]
) -> Int[np.ndarray, " n"]:
    """Index of the example that is most like each of n particles, compared as the head compares with its classes."""
    on = head.prototype.device
    return (
        head.compare(torch.from_numpy(embeddings).to(on), torch.from_numpy(examples).to(on)).argmax(dim=1).cpu().numpy()
    )


def outlined(picture: UInt8[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "_ _"]:
    """A picture twice as large in which the border of the mask is white."""
    large, inside = (np.kron(given, np.ones((2, 2), dtype=given.dtype)) for given in (picture, mask.astype(np.uint8)))
    padded = np.pad(inside, 1)
    neighbors = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    border = (inside > 0) & np.any([side == 0 for side in neighbors], axis=0)
    return np.where(border, 255, np.minimum(large, 208)).astype(np.uint8)


def support_section(report: ReportInput, support: SupportExamples) -> str:
    """Examples of every class, then particles beside their nearest example, the wrong or the strangest ones first."""
    body = ""
    for c, name in enumerate(report.class_names):
        mine = np.flatnonzero(support.label == c)
        pictures = "".join(_figure(_picture(support.volumes[row]), "xy") for row in mine[:EXAMPLES_SHOWN])
        more = f" ({EXAMPLES_SHOWN} of {len(mine)})" if len(mine) > EXAMPLES_SHOWN else ""
        body += f'<h3>{escape(name)}{more}</h3><div class="gallery"><div class="views">{pictures}</div></div>'
    rows, how = _shown(report)
    cards = ""
    if report.volumes is not None and len(rows):
        boxes = report.volumes(np.ascontiguousarray(rows))
        masks = None if support.masks is None else support.masks(rows)
        for place, row in enumerate(rows):
            mask = None if masks is None else masks[place]
            cards += _card(report, support, int(row), boxes[place], mask)
    body += f'<h3>Beside the nearest example: {how}</h3><div class="gallery">{cards}</div>'
    lead = (
        "What each class was made from, and particles beside the example they are most like, whatever they are called."
        + (" White lines show which voxels are taken for the particle's." if support.masks is not None else "")
    )
    return section("support", "Examples", body, lead)


def _shown(report: ReportInput) -> tuple[NDArray[np.int64], str]:
    sure = np.argsort(-report.confidence, kind="stable")
    if report.wrong.any():
        wrong = sure[report.wrong[sure]]
        return wrong[:SHOWN], f"wrong, most confident first ({min(SHOWN, len(wrong))} of {len(wrong):,})"
    if report.similarity is not None:
        return np.argsort(report.similarity, kind="stable")[:SHOWN], "least familiar first"
    return sure[::-1][:SHOWN], "least confident first"


def _picture(box: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    image = slab(box[None], 0, slab_thickness(len(box)))[0]
    picture = gray_levels(image, *window(image))
    if mask is None:
        return np.kron(picture, np.ones((2, 2), dtype=np.uint8))
    return outlined(picture, mask[len(box) // 2])


def _figure(picture: NDArray[np.uint8], caption: str) -> str:
    description = f"{caption}, central xy slab"
    return (
        f'<figure><img src="{png_uri(picture)}" alt="{escape(description)}"><figcaption>{caption}</figcaption></figure>'
    )


def _card(
    report: ReportInput, support: SupportExamples, row: int, box: NDArray[np.float32], mask: NDArray[np.bool_] | None
) -> str:
    example = int(support.nearest[row])
    pictures = _figure(_picture(box, mask), "particle") + _figure(_picture(support.volumes[example]), "example")
    called, true = report.class_name(int(report.predicted[row])), report.class_name(int(report.truth[row]))
    verdict = "✗ " if report.wrong[row] else ""
    truth = f"<dt>true</dt><dd>{escape(true)}</dd>" if report.has_truth else ""
    like = escape(report.class_name(int(support.label[example])))
    similarity = ""
    if report.similarity is not None:
        similarity = f"<dt>similarity</dt><dd>{report.similarity[row]:.2f}</dd>"
    return (
        f'<div class="example{" wrong" if report.wrong[row] else ""}"><div class="views">{pictures}</div><dl>'
        f"<dt>called</dt><dd><b>{verdict}{escape(called)}</b></dd>{truth}<dt>most like</dt><dd>{like}</dd>"
        f"<dt>confidence</dt><dd>{report.confidence[row]:.2f}</dd>{similarity}</dl>"
        f'<p class="id">{escape(report.particles.particle_id[row])}</p></div>'
    )
