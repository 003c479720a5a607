"""Training sets of a method: which particles are labeled, unlabeled and held out."""

from typing import Any

import numpy as np
import pytest

from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import Subtomograms, open_subtomograms
from tomosift.methods.domain_adversarial import Config as DomainConfig
from tomosift.methods.prototypical import Config as EpisodeConfig
from tomosift.methods.supervised import Config as SupervisedConfig
from tomosift.workflows.train import open_training_sets


@pytest.fixture
def labeled(world: Any, chain: Any) -> Subtomograms:
    return label_subtomograms(open_subtomograms(chain.subtomograms), world.paths.particles_truth)


def test_labels_and_validation_of_tables_share_the_classes(world: Any, chain: Any) -> None:
    tables = {"labels": world.labels, "validation": world.paths.particles_truth}
    data = open_training_sets("supervised", chain.subtomograms, SupervisedConfig(), **tables)
    assert len(data.labeled.labeled_rows) == 6
    assert len(data.unlabeled) == len(data.validation) == 45
    assert data.validation.class_names == data.labeled.class_names


def test_validation_classes_are_held_out(labeled: Subtomograms) -> None:
    data = open_training_sets("prototypical", labeled, EpisodeConfig(), validation_classes=("groel",))
    assert set(data.validation.particles.class_name) == {"groel"}
    assert "groel" not in set(data.labeled.particles.class_name)
    assert len(data.labeled) + len(data.validation) == len(data.unlabeled) == 45
    with pytest.raises(ValueError, match="validation class clpb is not among those of"):
        open_training_sets("prototypical", labeled, EpisodeConfig(), validation_classes=("clpb",))


def test_target_domain_has_no_labels_and_needs_one_source(chain: Any, labeled: Subtomograms) -> None:
    data = open_training_sets("domain_adversarial", labeled, DomainConfig(), source=chain.subtomograms)
    assert not len(data.unlabeled.labeled_rows)
    np.testing.assert_array_equal(data.labeled.particles.particle_id, labeled.particles.particle_id)
    for config, source in ((DomainConfig(), None), (DomainConfig(structures=("groel",)), chain.subtomograms)):
        with pytest.raises(ValueError, match="either a labeled set with --source or structures"):
            open_training_sets("domain_adversarial", labeled, config, source=source)
