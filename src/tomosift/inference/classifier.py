"""The classifier: an encoder, a head and what is needed to use them correctly."""

from dataclasses import dataclass, field
from dataclasses import replace as replace_fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tomosift.averaging.class_averages import ClassAverages
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.inference.heads import HeadName, LinearHead, PLDAHead, PrototypeHead, build_head
from tomosift.inference.novelty import SimilarityScore
from tomosift.learning.plda import PLDA
from tomosift.models.center_finder import finder_digest
from tomosift.models.decoders import Decoder, build_decoder
from tomosift.models.embedder import Embedder
from tomosift.models.encoder import Encoder
from tomosift.models.recentering import SUBTOMOGRAMS_TO_FIT, Recentering


@dataclass(frozen=True)
class ModelCard:
    """What a model is; stored beside its weights."""

    encoder: str
    """Name in `ENCODERS`."""
    voxel_spacing_angstrom: float
    box_size: int
    class_names: tuple[str, ...] = ()
    """Empty for an encoder that was pretrained without classes."""
    temperature: float = 1.0
    """Logits are divided by it before the softmax, so that probabilities are calibrated."""
    min_confidence: float = 0.0
    """Particles whose confidence is lower are classified as "unknown"."""
    min_similarity: float = -1.0
    """Particles whose similarity to every labeled class is lower are classified as "unknown"."""
    head: HeadName = "linear"
    """A trained linear layer, or one of those that compare with class prototypes and accept new classes."""
    decoder: str = ""
    """Name in `DECODERS` of what predicts masks; empty for none."""
    class_averages: bool = False
    """Whether class averages are part of the model."""
    center_finder: str = field(default_factory=finder_digest)
    """Checksum of the center finder that recentered the subtomograms in training."""


class _Absent:
    """Stands for an argument that was not given."""


_ABSENT = _Absent()


class Classifier(nn.Module):
    """A model: subtomograms in, embeddings and logits out.

    A model without classes gives embeddings only; its head, if it has one, is for classes of a later enrolment.

    Parameters
    ----------
    embedder
        Center search and encoder.
    card
        What the model is. Parts that are not given are built new as the card says.
    head, similarity, decoder, class_averages
        Parts of another model to use instead.

    Examples
    --------
    >>> from tomosift.models.encoders import build_encoder
    >>> from tomosift.models.recentering import Recentering
    >>> embedder = Embedder(build_encoder("radial"), Recentering())
    >>> model = Classifier(embedder, ModelCard("radial", 10.0, 32, class_names=("ribosome", "proteasome")))
    >>> model.logits(torch.zeros(3, 256)).shape
    torch.Size([3, 2])
    """

    encoder: Encoder
    recentering: Recentering

    def __init__(
        self,
        embedder: Embedder,
        card: ModelCard,
        *,
        head: LinearHead | PrototypeHead | _Absent | None = _ABSENT,
        similarity: SimilarityScore | _Absent | None = _ABSENT,
        decoder: Decoder | _Absent | None = _ABSENT,
        class_averages: ClassAverages | _Absent | None = _ABSENT,
    ) -> None:
        super().__init__()
        self.card = card
        self.encoder, self.recentering = embedder.encoder, embedder.recentering
        size, classes = self.encoder.embedding_size, len(card.class_names)
        if isinstance(head, _Absent):
            head = build_head(card.head, size, classes)
        if isinstance(similarity, _Absent):
            similarity = SimilarityScore(size, classes) if classes else None
        if isinstance(decoder, _Absent):
            decoder = build_decoder(card.decoder, self.encoder)
        if isinstance(class_averages, _Absent):
            class_averages = ClassAverages(classes, card.box_size) if card.class_averages else None
        self.head, self.similarity, self.decoder, self.class_averages = head, similarity, decoder, class_averages

    @property
    def embedder(self) -> Embedder:
        """Center search and encoder."""
        return Embedder(self.encoder, self.recentering)

    @property
    def plda(self) -> PLDA | None:
        """The PLDA by which this model compares embeddings; None for other heads."""
        return self.head.plda if isinstance(self.head, PLDAHead) else None

    def replace(self, card: ModelCard | None = None, embedder: Embedder | None = None, **parts: Any) -> "Classifier":
        """A model that shares all parts with this one but those given: ``head``, ``similarity`` and so on."""
        names = ("head", "similarity", "decoder", "class_averages")
        parts = {name: parts.pop(name, getattr(self, name)) for name in names} | parts
        other = Classifier(embedder or self.embedder, card or self.card, **parts)
        return other.train(self.training)

    def replace_card(self, **fields: Any) -> "Classifier":
        """A model that shares all parts with this one and whose card has these fields."""
        return self.replace(replace_fields(self.card, **fields))

    def with_class_averages(self, class_averages: ClassAverages) -> "Classifier":
        """A model that compares particles with these class averages as well."""
        card = replace_fields(self.card, class_averages=True, box_size=class_averages.box_size)
        return self.replace(card, class_averages=class_averages)

    def adapt_to(self, subtomograms: Subtomograms) -> "Classifier":
        """A model that expects the picking error of this set, estimated from some of its subtomograms.

        Only for models without classes: the embeddings of classes that were learned would change.

        Raises
        ------
        ValueError
            The model has classes.
        """
        if self.card.class_names:
            raise ValueError("the model has classes, whose embeddings would change; adapt a model without classes")
        return self.replace(embedder=fit_embedder(self.encoder, subtomograms))

    def forward(self, volume: Float[Tensor, "b d d d"]) -> Float[Tensor, "b k"]:
        """Logits of subtomograms as they were picked, before the temperature."""
        return self.logits(self.embedder(volume))

    def logits(self, embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b k"]:
        """Logits of embeddings, before the temperature.

        Raises
        ------
        ValueError
            The model was trained without classes.
        """
        if self.head is None or not self.card.class_names:
            raise ValueError("this model was trained without classes; fine-tune it with labels first")
        return self.head(embedding)  # type: ignore[no-any-return]


def fit_embedder(encoder: Encoder, subtomograms: Subtomograms) -> Embedder:
    """An embedder for a set of subtomograms, whose picking error is estimated from some of them."""
    if not encoder.recenters:
        return Embedder(encoder, Recentering())
    rows = subtomograms.spaced_rows(SUBTOMOGRAMS_TO_FIT)
    return Embedder.fit(encoder, torch.from_numpy(subtomograms.volumes(rows)))
