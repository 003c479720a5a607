"""Contrastive pretraining of an encoder on the subtomograms of a user, without labels."""

from pathlib import Path

from tomosift import methods
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.data.training_sets import TrainingSets
from tomosift.methods.contrastive import Config
from tomosift.progress import Monitor


def pretrain(
    subtomograms: Subtomograms,
    out: Path | str,
    *,
    config: Config | None = None,
    seed: int = 0,
    monitor: Monitor | None = None,
) -> Path:
    """Pretrain an encoder on all subtomograms of a set; labels are not used.

    Parameters
    ----------
    subtomograms
        Set of at least two subtomograms.
    out
        Folder of the run; an interrupted run resumes, a finished one is kept.
    config
        Settings (`tomosift.methods.contrastive.Config`).
    seed
        Seed of all random numbers.
    monitor
        Shows progress.

    Returns
    -------
    pathlib.Path
        The run, for ``init`` of `tomosift.SubtomogramClassifier`.

    Raises
    ------
    ValueError
        There are too few subtomograms, or the settings ask for half subtomograms that the set does not have.

    Notes
    -----
    Source: Gupta et al. 2022, Front. Physiol. 13:957484; see `tomosift.methods.contrastive` for the deviations.

    Examples
    --------
    ::

        run = tomosift.pretrain(subtomograms, "pretrained")
        tomosift.SubtomogramClassifier(init=run).fit(subtomograms, "labels.star")
    """
    out, monitor = Path(out), monitor or Monitor()
    data = TrainingSets.from_labels(subtomograms.empty(), subtomograms)
    with monitor.stage("pretrain", "steps") as progress:
        methods.train("contrastive", config or Config(), data, out, seed, progress)
    return out
