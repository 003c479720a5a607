"""The report is complete, self-contained and safe."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomosift.data.subtomogram_set import Subtomograms
from tomosift.evaluation.cluster_matches import ClusterMatches
from tomosift.evaluation.report import (
    Comparison,
    DomainComparison,
    ReportInput,
    SupportExamples,
    render_report,
    write_report,
)
from tomosift.evaluation.report.sections import load_sections
from tomosift.inference.prediction import Prediction
from tomosift.learning.clustering import Clusters
from tomosift.particles import Particles

EVIL = "<script>alert('x')</script>\"><img src=http://evil.example/x.png onerror=alert(1)>$\\frac{1}"
SECTIONS = ("confusion", "classes", "calibration", "map", "averages", "examples", "counts", "provenance")
VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """Elements, ids and addresses of a page; complains where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "poster")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag


def volumes(rows: np.ndarray) -> np.ndarray:
    """A box of noise per row, the same every time."""
    return np.stack([np.random.default_rng(int(row)).normal(size=(8, 8, 8)) for row in rows]).astype(np.float32)


def report(n: int = 24, k: int = 3, **changes: Any) -> ReportInput:
    """A complete report on n particles, mostly right."""
    generator = np.random.default_rng(0)
    true = np.arange(n) % k
    logits = np.eye(k)[true] * 2 + generator.normal(size=(n, k))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    complete: dict[str, Any] = {
        "title": "A test",
        "particles": Particles.create(
            [f"tomo{i % 6}" for i in range(n)], np.zeros((n, 3)), rotation=np.tile(np.eye(3), (n, 1, 1))
        ),
        "probabilities": probabilities,
        "class_names": tuple(f"class {c}" for c in range(k)),
        "true_label": true,
        "embeddings": logits,
        "volumes": volumes,
        "comparisons": (Comparison("from scratch", 0.5, 0.4, 0.6), Comparison("template matching", 0.3)),
        "labels_per_class": 5,
        "min_confidence": 0.5,
        "voxel_spacing_angstrom": 10.0,
        "notes": ("one note",),
        "provenance": {"command": "tomosift evaluate", "config": {"steps": 3}},
    }
    return ReportInput(**(complete | changes))


@pytest.fixture(scope="module")
def complete() -> str:
    return render_report(report())


def test_a_complete_report_has_every_section_and_every_link_leads_to_one(complete: str) -> None:
    page = Page(complete)
    assert set(SECTIONS) <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    targets = {address[1:] for address in page.addresses if address.startswith("#")}
    assert targets <= set(page.ids)
    assert set(SECTIONS) <= targets


def test_the_report_loads_nothing_from_anywhere(complete: str) -> None:
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in Page(complete).addresses)
    assert not {"link", "iframe", "object", "embed", "base"} & set(Page(complete).tags)
    assert "http://" not in complete
    assert "https://" not in complete
    assert "@import" not in complete
    assert all(address.startswith(("#", "data:")) for address in re.findall(r"url\(([^)]*)", complete))
    assert "default-src 'none'" in complete


def test_the_first_sentence_states_the_result(complete: str) -> None:
    given = report()
    accuracy = (given.predicted == given.truth).mean()
    assert (
        f"{accuracy:.2f} accuracy on 24 held-out particles from 6 tomograms, 3 classes, 5 labels each; "
        "from scratch 0.50; template matching 0.30." in complete
    )
    assert "bootstrap over 6 tomograms" in complete


def test_the_same_input_gives_the_same_page(complete: str) -> None:
    assert render_report(report()) == complete


def test_names_from_files_cannot_become_markup() -> None:
    particles = Particles.create(
        [EVIL] * 24, np.zeros((24, 3)), particle_id=np.array([f"{EVIL}{i}" for i in range(24)], dtype=object)
    )
    evil = report(
        title=EVIL,
        particles=particles,
        class_names=(EVIL, "$x^2$", "</style></script>"),
        comparisons=(Comparison(EVIL, 0.5),),
        notes=(EVIL,),
        provenance={EVIL: EVIL, "nested": {EVIL: [EVIL]}},
    )
    text = render_report(evil)
    page, harmless = Page(text), Page(render_report(report()))
    assert page.handlers == []
    assert page.tags.count("script") == harmless.tags.count("script")
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert "<img src=http" not in text
    assert "alert('x')</script>" not in text
    data = re.search(r'<script type="application/json" id="map-data">(.*?)</script>', text)
    assert data is not None
    assert json.loads(data.group(1))["names"][0] == EVIL


def test_the_script_of_the_map_only_sets_text() -> None:
    text = render_report(report())
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert unsafe not in text


@pytest.mark.parametrize(
    ("left_out", "missing"),
    [
        ({"true_label": None}, {"confusion", "classes", "calibration"}),
        ({"true_label": np.full(24, -1)}, {"confusion", "classes", "calibration"}),
        ({"embeddings": None}, {"map"}),
        ({"volumes": None}, {"averages", "examples"}),
        (
            {"true_label": None, "embeddings": None, "volumes": None, "min_confidence": None, "comparisons": ()},
            {"confusion", "classes", "calibration", "map", "averages", "examples"},
        ),
        ({"notes": (), "provenance": {}}, set()),
    ],
)
def test_sections_without_input_are_left_out(left_out: dict[str, Any], missing: set[str]) -> None:
    page = Page(render_report(report(**left_out)))
    assert set(SECTIONS) & set(page.ids) == set(SECTIONS) - missing
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


def test_without_true_classes_the_page_says_so_and_claims_no_accuracy() -> None:
    text = render_report(report(true_label=None, comparisons=()))
    assert "No true classes were given" in text
    assert "24 particles from 6 tomograms sorted into 3 classes" in text
    assert "accuracy on" not in text
    assert 'id="map-truth"' not in text


def test_averages_without_orientations_are_stated_as_not_aligned() -> None:
    with_orientations = render_report(report())
    without = render_report(report(rotation=np.full((24, 3, 3), np.nan)))
    assert "<b>aligned</b>" in with_orientations
    assert "<b>not aligned</b>" not in with_orientations
    assert "<b>aligned</b>" not in without
    assert "<b>not aligned</b>" in without


def test_class_averages_of_the_model_are_shown_where_a_class_has_one() -> None:
    averages = np.random.default_rng(0).normal(size=(3, 16, 16, 16))
    averages[1] = 0
    text = render_report(report(class_averages=averages))
    Page(text)
    assert text.count('<p class="kind">compared with</p>') == 2
    assert "<b>Compared with</b>: the class average of the model" in text
    assert "ompared with</" not in render_report(report())


def test_one_class_one_particle_and_no_right_answer_still_make_a_page() -> None:
    Page(render_report(report(k=1)))
    Page(render_report(report(n=1)))
    given = report()
    Page(render_report(report(true_label=(given.predicted + 1) % 3)))
    Page(render_report(report(true_label=given.predicted)))


def test_a_class_without_test_particle_is_named() -> None:
    true = np.arange(24) % 3
    text = render_report(report(true_label=np.where(true == 2, 0, true)))
    Page(text)
    assert "No test particle: class 2" in text


def test_partly_known_truth_counts_only_what_is_known() -> None:
    true = np.arange(24) % 3
    true[:4] = -1
    text = render_report(report(true_label=true))
    assert "20 held-out particles" in text


def test_many_classes_and_names_in_any_script_are_no_error() -> None:
    names = tuple(f"クラス {c}" for c in range(65))
    text = render_report(report(n=65, k=65, class_names=names, embeddings=None, volumes=None))
    Page(text)
    assert "The matrix of 65 classes is too large to print here" in text


def test_the_map_is_capped_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomosift.evaluation.report.sections.map.MAP_POINTS", 10)
    text = render_report(report())
    assert "10 of 24 particles, drawn at random" in text
    assert text.count('class="c') >= 10
    data = re.search(r'id="map-data">(.*?)</script>', text)
    assert data is not None
    assert len(json.loads(data.group(1))["x"]) == 10


@pytest.mark.slow
def test_a_thousand_particles_stay_below_five_megabytes(tmp_path: Path) -> None:
    def noise(rows: np.ndarray) -> np.ndarray:
        return np.random.default_rng(int(rows[0])).normal(size=(len(rows), 48, 48, 48)).astype(np.float32)

    given = report(n=1000, k=10, volumes=noise, embeddings=np.random.default_rng(0).normal(size=(1000, 16)))
    write_report(tmp_path / "report.html", given)
    assert (tmp_path / "report.html").stat().st_size < 5e6


def test_a_written_report_is_the_rendered_one_and_leaves_nothing_else(tmp_path: Path, complete: str) -> None:
    write_report(tmp_path / "report.html", report())
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == complete
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_sections_have_distinct_positions_and_anchors() -> None:
    sections = load_sections()
    assert len({section.order for section in sections}) == len({section.id for section in sections}) == len(sections)


def test_clusters_domains_and_support_are_sections_of_their_input() -> None:
    given = report()
    generator = np.random.default_rng(0)
    clouds = tuple(generator.normal(size=(20, 4)) for _ in range(2))
    added = {
        "clusters": Clusters(given.probabilities, np.array([0.9, 0.6, 0.2])),
        "matches": ClusterMatches(("groel",), np.array([[0.9, 0.1], [0.02, 0.98], [0.5, 0.5]])),
        "domains": DomainComparison({"source": volumes(np.arange(2))}, clouds, clouds),
        "support": SupportExamples(volumes(np.arange(3)), np.arange(3), np.zeros(24, int)),
    }
    page = Page(render_report(report(**added)))
    assert {"clusters", "domains", "support"} <= set(page.ids)
    text = render_report(report(**added))
    assert "<b>groel 0.90</b>" in text
    assert "<b>none of these 0.98</b>" in text
    assert "0.90 stable" in text
    assert "0.20 doubtful" in text
    assert not {"clusters", "domains", "support"} & set(Page(render_report(given)).ids)


def test_input_from_a_prediction_takes_the_set_and_ignores_thresholds_without_effect(
    tmp_path: Path, write_subtomograms: Callable[..., Subtomograms]
) -> None:
    subtomograms = write_subtomograms(tmp_path / "set", volumes(np.arange(4)), [0, 1, 0, 1], ("a", "b"))
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    prediction = Prediction(np.eye(4), np.log(probabilities), probabilities, np.full(4, np.nan))
    built = ReportInput.from_prediction(
        prediction, subtomograms, ("a", "b"), title="t", min_confidence=0.0, min_similarity=-1.0, seed=3
    )
    assert (built.min_confidence, built.min_similarity, built.similarity, built.is_unknown) == (None, None, None, None)
    assert (built.voxel_spacing_angstrom, built.seed) == (10.0, 3)
    similar = replace(prediction, similarity=np.array([0.5, 0.1, 0.9, 0.9]))
    built = ReportInput.from_prediction(similar, subtomograms, ("a", "b"), title="t", min_similarity=0.2)
    assert built.is_unknown is not None
    assert built.is_unknown.tolist() == [False, True, False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"probabilities": np.ones((3, 3))}, r"probabilities has shape \(3, 3\), expected \(24, 3\)"),
        ({"true_label": np.full(24, 3)}, "true label 3 names no class"),
        ({"embeddings": np.full((24, 2), np.nan)}, "embeddings holds NaN"),
        ({"rotation": np.zeros((1, 3, 3))}, r"rotation has shape \(1, 3, 3\)"),
        (
            {"class_averages": np.zeros((2, 16, 16, 16))},
            r"class_averages has shape \(2, 16, 16, 16\), expected \(3, 16, 16, 16\)",
        ),
        ({"particles": Particles.create([], np.zeros((0, 3)))}, "no particle to report on"),
    ],
)
def test_input_that_does_not_fit_is_refused_in_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report(**change)
