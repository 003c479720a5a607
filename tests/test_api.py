"""The Python API: light to import, short, and its classifier follows the conventions of scikit-learn."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone

import tomosift
from tomosift.data.subtomogram_set import Subtomograms
from tomosift.methods.supervised import Config
from tomosift.simulation.subtomograms import SubtomogramSetConfig, simulate_subtomograms
from tomosift.train.loop import Training

pytestmark = pytest.mark.usefixtures("fast_recentering")

CLASSES = ("ribosome-70s", "apoferritin")
PROGRAM = """
    import tomosift

    structures = ["ribosome-70s", "apoferritin", "stnv-capsid"]
    size = {"shape_zyx": (28, 96, 96), "voxel_spacing_angstrom": 13.333, "tilt_step_deg": 6.0, "snr": 0.5}
    world = tomosift.simulate(structures, "world", tomograms=2, particles_per_class=8, seed=1, **size)
    tomograms = tomosift.open_tomograms(world.tomograms)
    picks = tomosift.read_particles(world.picks, tomograms)
    subtomograms = tomosift.extract(picks, tomograms, "set", voxel_spacing_angstrom=13.333, box_size=24)
    classifier = tomosift.SubtomogramClassifier("prototypes", class_averages="never")
    classifier.fit(subtomograms, world.labels)
    tomosift.write_particles("classified.star", classifier.predict(subtomograms), tomograms)
    accuracy = classifier.score(subtomograms, world.truth)
"""


@pytest.fixture(scope="module")
def subtomograms(tmp_path_factory: pytest.TempPathFactory) -> Subtomograms:
    config = SubtomogramSetConfig(CLASSES, per_class=12, box_size=16, voxel_spacing_angstrom=20.0, max_neighbors=0)
    return simulate_subtomograms(config, tmp_path_factory.mktemp("api") / "set")


@pytest.fixture(scope="module")
def fitted(subtomograms: Subtomograms) -> tomosift.SubtomogramClassifier:
    return tomosift.SubtomogramClassifier("prototypes", class_averages="never").fit(subtomograms)


def test_import_is_lazy() -> None:
    heavy = ("numpy", "torch", "pandas", "scipy", "sklearn")
    code = f"import sys, tomosift; print([name for name in {heavy} if name in sys.modules])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_every_name_is_importable_in_a_new_process() -> None:
    assert 12 <= len(tomosift.__all__) <= 18
    code = "from tomosift import *; import tomosift; print([n for n in tomosift.__all__ if n not in globals()])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def test_unknown_attribute_is_an_attribute_error_with_the_known_names() -> None:
    with pytest.raises(AttributeError, match=r"module 'tomosift' has no attribute 'classifier'; it has .*simulate"):
        tomosift.classifier  # noqa: B018


def test_names_of_the_api_are_functions_and_classes_and_never_modules() -> None:
    assert all(callable(getattr(tomosift, name)) for name in tomosift.__all__)


def test_parameters_can_be_read_set_and_cloned() -> None:
    classifier = tomosift.SubtomogramClassifier(min_confidence=0.4, seed=3)
    assert classifier.get_params()["min_confidence"] == 0.4
    assert classifier.set_params(method="prototypes", init=None) is classifier
    assert clone(classifier).get_params() == classifier.get_params()
    with pytest.raises(ValueError, match="Invalid parameter"):
        classifier.set_params(confidence=1)


def test_clone_is_not_fitted(fitted: tomosift.SubtomogramClassifier) -> None:
    assert hasattr(fitted, "classifier_")
    assert not hasattr(clone(fitted), "classifier_")


def test_fit_returns_itself_and_sets_attributes(
    fitted: tomosift.SubtomogramClassifier, subtomograms: Subtomograms
) -> None:
    assert fitted.fit(subtomograms) is fitted
    assert set(fitted.classes_) == set(CLASSES)
    assert fitted.averages_reason_ == ""
    assert fitted.transform(subtomograms).shape[0] == len(subtomograms)


def test_predict_is_the_most_probable_class(fitted: tomosift.SubtomogramClassifier, subtomograms: Subtomograms) -> None:
    probabilities = fitted.predict_proba(subtomograms)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    predicted = fitted.predict(subtomograms)
    assert predicted.columns["tomosiftClass"].tolist() == fitted.classes_[probabilities.argmax(axis=1)].tolist()
    assert predicted.particle_id.tolist() == subtomograms.particles.particle_id.tolist()


@pytest.mark.parametrize("call", ["predict", "predict_proba", "transform", "score"])
def test_classifier_that_is_not_fitted_is_refused(call: str, subtomograms: Subtomograms) -> None:
    with pytest.raises(ValueError, match="not fitted; call fit with a set and labels first"):
        getattr(tomosift.SubtomogramClassifier(), call)(subtomograms)


def test_wrong_parameters_and_labels_are_refused(subtomograms: Subtomograms) -> None:
    with pytest.raises(ValueError, match="expected 'supervised' or 'prototypes'"):
        tomosift.SubtomogramClassifier().set_params(method="forest").fit(subtomograms)
    with pytest.raises(ValueError, match="labels has 2 names, expected one for each of 24 particles"):
        tomosift.SubtomogramClassifier("prototypes").fit(subtomograms, ["a", "b"])
    with pytest.raises(ValueError, match="no particle is labeled"):
        tomosift.SubtomogramClassifier("prototypes").fit(subtomograms, [""] * len(subtomograms))
    with pytest.raises(ValueError, match="prototypes need a model to start from"):
        tomosift.SubtomogramClassifier("prototypes", init=None).fit(subtomograms)


def test_labels_can_be_names_particles_or_a_table(
    fitted: tomosift.SubtomogramClassifier, subtomograms: Subtomograms
) -> None:
    expected = fitted.predict_proba(subtomograms)
    classifier = clone(fitted).fit(subtomograms, subtomograms.particles.class_name)
    np.testing.assert_array_equal(classifier.predict_proba(subtomograms), expected)


@pytest.mark.parametrize("method", ["prototypes", "supervised"])
def test_saved_classifier_predicts_the_same(
    method: str, fitted: tomosift.SubtomogramClassifier, subtomograms: Subtomograms, tmp_path: Path
) -> None:
    if method == "supervised":
        config = Config(training=Training(steps=2, batch_size=8))
        fitted = tomosift.SubtomogramClassifier(init=None, class_averages="never", config=config).fit(subtomograms)
    fitted.save(tmp_path / "model")
    loaded = tomosift.SubtomogramClassifier.load(tmp_path / "model")
    assert loaded.method == method
    assert loaded.classes_.tolist() == fitted.classes_.tolist()
    np.testing.assert_array_equal(loaded.predict_proba(subtomograms), fitted.predict_proba(subtomograms))


def test_model_without_classes_is_not_loaded_as_a_classifier() -> None:
    with pytest.raises(ValueError, match="was trained without classes"):
        tomosift.SubtomogramClassifier.load("general")


def test_clusters_embed_the_set_by_the_same_model(subtomograms: Subtomograms) -> None:
    embeddings = tomosift.embed(subtomograms)
    clusters = tomosift.cluster(subtomograms, 2)
    assert embeddings.shape[0] == len(clusters.label) == len(subtomograms)
    assert set(clusters.label) <= {0, 1}


@pytest.mark.slow
def test_fifteen_lines_of_a_new_user_classify_particles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate, extract, fit, predict and write, with names of `tomosift` alone; chance is one in three."""
    program = textwrap.dedent(PROGRAM).strip()
    assert len(program.splitlines()) <= 15
    imports = [node for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(node) for node in imports] == ["import tomosift"]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(program, "program", "exec"), names)
    assert isinstance(names["accuracy"], float)
    assert names["accuracy"] > 0.7
    table = tomosift.read_particles("classified.star", tomosift.open_tomograms("world/tomograms.star"))
    assert len(table) == len(names["picks"])  # type: ignore[arg-type]
    assert set(table.class_name) <= {"ribosome-70s", "apoferritin", "stnv-capsid"}
