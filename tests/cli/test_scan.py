"""The command scan: what it writes, what a repeated one keeps, and what is refused."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models
import pytest

from tomosift.cli.main import main
from tomosift.data.extraction.tomogram_sources import collect_grids, open_tomograms
from tomosift.evaluation.metrics.detection import score_detections
from tomosift.files import write_json
from tomosift.io.particles import copick, read_particles, write_particles
from tomosift.io.volumes import open_volume, write_volume
from tomosift.particles import Particles

Refuse = Callable[..., str]
SPACING = 16.0
QUICK = ("--detector.model", "None", "--detector.voxel-spacing", SPACING, "--detector.box-size", 16,
         "--detector.background-points", 6000, "--detector.self-training-rounds", 0, "--detector.training.steps", 150,
         "--detector.training.batch-size", 64)  # fmt: skip


def run(*words: object) -> None:
    main([str(word) for word in words])


def tomogram(world: Any, number: int) -> Path:
    return Path(world.folder) / "tomograms" / f"tomogram_{number:03d}.mrc"


def state(*files: Path) -> dict[str, int]:
    return {
        str(file): file.stat().st_mtime_ns
        for folder in files
        for file in (folder, *folder.rglob("*"))
        if file.is_file()
    }


def read(world: Any, path: Path) -> Particles:
    grids = collect_grids(open_tomograms(Path(world.folder) / "tomograms"))
    return read_particles(path, voxel_spacing_angstrom=SPACING, grids=grids)


@pytest.fixture(scope="module")
def picks(world: Any) -> Path:
    """The true particles of all tomograms, with their classes."""
    return Path(world.paths.particles_truth)


@pytest.fixture(scope="module")
def scan_words(world: Any, picks: Path) -> tuple[object, ...]:
    """A scan of two tomograms by labels of all three."""
    return (
        *("scan", tomogram(world, 1), tomogram(world, 2), "--labels", picks),
        *("--label-tomograms", world.paths.tomograms, "--radius", 100, "--maps", *QUICK),
    )


@pytest.fixture(scope="module")
def scanned(scan_words: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scanned") / "out"
    run(*scan_words, "--out", out)
    return out


def test_scan_from_labels_writes_a_detector_a_table_maps_and_a_report(world: Any, scanned: Path) -> None:
    assert sorted(path.name for path in scanned.iterdir()) == [
        "detector",
        "found",
        "maps",
        "particles.star",
        "report.html",
    ]
    assert sorted(path.name for path in (scanned / "found").iterdir()) == ["tomogram_001.npz", "tomogram_002.npz"]
    report = (scanned / "report.html").read_text()
    assert report.count('src="data:image/png;base64,') >= 6
    assert report.count("<circle") > 10
    assert not re.search(r'(src|href)="(?!data:|#)', report)


def test_picks_are_the_particles(world: Any, scanned: Path, picks: Path) -> None:
    """The tomograms are blurred and noisy, at 16 A; chance finds one particle in 50."""
    detected, truth = read(world, scanned / "particles.star"), read(world, picks)
    assert set(detected.tomogram) == {"tomogram_001", "tomogram_002"}
    truth = truth.select(np.isin(truth.tomogram.astype(str), list(set(detected.tomogram))))
    score = score_detections(detected, truth, dict.fromkeys(sorted(set(truth.class_name)), 160.0))
    assert score.recall > 0.5
    assert score.precision > 0.3
    assert set(detected.class_name) <= set(truth.class_name)
    assert (detected.score >= 0.5 - 1e-3).all()


def test_maps_are_ome_zarr_with_the_spacing_of_the_grid_points(scanned: Path) -> None:
    path = scanned / "maps" / "tomogram_001.zarr"
    volume = open_volume(path)
    assert volume.voxel_spacing_angstrom == SPACING
    assert volume.shape_zyx == (24, 64, 64)
    assert open_volume(path).origin_zyx_angstrom == (0.0, 0.0, 0.0)
    ome_zarr_models.open_ome_zarr(str(path))
    values = volume.read()
    assert 0 <= values.min() < 0.1
    assert 0.5 < values.max() <= 1


def test_repeated_command_computes_nothing_again(
    scan_words: tuple[object, ...], scanned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = (scanned / "found", scanned / "maps", scanned / "detector")
    before, table = state(*parts), (scanned / "particles.star").read_text()
    run(*scan_words, "--out", scanned)
    assert "trained before, used as it is" in capsys.readouterr().err
    after = state(*parts)
    changed = {Path(name).name for name in before if after[name] != before[name]}
    assert changed <= {"environment.json"}
    assert set(after) == set(before)
    strip = re.compile(r"^#.*$", re.MULTILINE)
    assert strip.sub("", (scanned / "particles.star").read_text()) == strip.sub("", table)


def test_detector_scans_other_tomograms_and_other_settings_compute_results_again(
    world: Any, scanned: Path, tmp_path: Path
) -> None:
    words = ("scan", tomogram(world, 3), "--model", scanned / "detector", "--radius", 100, "--out", tmp_path)
    run(*words, "--table", "found.csv")
    (result,) = (tmp_path / "found").iterdir()
    before = state(result)
    run(*words, "--table", "found.star")
    assert state(result) == before  # only the table is another
    one, other = (read(world, tmp_path / name) for name in ("found.csv", "found.star"))
    np.testing.assert_allclose(one.position_zyx_angstrom, other.position_zyx_angstrom, atol=0.02)
    assert one.class_name.tolist() == other.class_name.tolist()
    assert set(one.tomogram) == {"tomogram_003"}
    run(*words, "--table", "found.csv", "--min-confidence", 0.9)
    assert state(result) != before
    confident = read(world, tmp_path / "found.csv")
    assert 0 < len(confident) <= len(one)
    assert not (tmp_path / "detector").exists()


def test_copick_projects_get_the_picks_by_run_and_class(world: Any, scanned: Path, tmp_path: Path) -> None:
    names = sorted(set(read(world, scanned / "particles.star").class_name))
    objects = [{"name": str(name), "is_particle": True, "label": k + 1} for k, name in enumerate(names)]
    config = {"overlay_root": "local://overlay", "config_type": "filesystem", "pickable_objects": objects}
    write_json(tmp_path / "project.json", config)
    (tmp_path / "overlay").mkdir()
    words = ("--model", scanned / "detector", "--radius", 100, "--table", "project.json", "--out", tmp_path)
    run("scan", tomogram(world, 1), tomogram(world, 2), *words)
    detected = copick.read_project(tmp_path / "project.json")
    expected = read(world, scanned / "particles.star")
    assert len(detected) == len(expected)
    assert set(detected.class_name) == set(expected.class_name)


@pytest.mark.slow
def test_workers_pick_the_same(world: Any, scanned: Path, tmp_path: Path) -> None:
    words = ("--model", scanned / "detector", "--radius", 100, "--workers", 2, "--out", tmp_path)
    run("scan", tomogram(world, 1), tomogram(world, 2), *words)
    one, other = (read(world, folder / "particles.star") for folder in (tmp_path, scanned))
    np.testing.assert_allclose(one.position_zyx_angstrom, other.position_zyx_angstrom, atol=0.01)
    assert one.class_name.tolist() == other.class_name.tolist()
    assert one.tomogram.tolist() == other.tomogram.tolist()


def test_tomograms_of_two_voxel_spacings_give_one_table(world: Any, scanned: Path, tmp_path: Path) -> None:
    """The same density on a grid of twice the spacing lies where it was."""
    volume = open_volume(tomogram(world, 1)).read()
    write_volume(tmp_path / "tomograms" / "fine.mrc", volume, SPACING)
    write_volume(tmp_path / "tomograms" / "larger.mrc", np.repeat(np.repeat(np.repeat(volume, 2, 0), 2, 1), 2, 2), 8.0)
    words = ("--model", scanned / "detector", "--radius", 100, "--table", "found.csv", "--out", tmp_path / "out")
    run("scan", tmp_path / "tomograms", *words)
    detected = read_particles(
        tmp_path / "out" / "found.csv", grids=collect_grids(open_tomograms(tmp_path / "tomograms"))
    )
    fine, larger = (detected.position_zyx_angstrom[detected.tomogram == name] for name in ("fine", "larger"))
    assert len(fine) > 3
    distance = np.linalg.norm(fine[:, None] - larger, axis=2).min(axis=1)
    assert np.median(distance) < 30.0


def test_masks_by_the_name_of_the_tomogram_limit_the_picks(world: Any, scanned: Path, tmp_path: Path) -> None:
    mask = np.ones((24, 64, 64), dtype=np.int8)
    mask[:, :32] = 0
    write_volume(tmp_path / "masks" / "tomogram_001.mrc", mask, SPACING)
    words = ("--model", scanned / "detector", "--radius", 100, "--masks", tmp_path / "masks", "--out", tmp_path / "out")
    run("scan", tomogram(world, 1), *words)
    detected = read(world, tmp_path / "out" / "particles.star")
    assert len(detected)
    assert detected.position_zyx_angstrom[:, 1].min() >= 31 * SPACING


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "give either --labels to learn from, or --model"),
        (("--labels", "PICKS", "--model", "MODEL"), "give either --labels to learn from, or --model"),
        (("--model", "MODEL", "--radii", "virus", 100), "radii name virus, expected classes of the detector: apof"),
        (("--labels", "HERE", "--radii", "virus", 100), "radii name virus, expected classes of the detector: apof"),
        (("--model", "MODEL", "--radius", 0), "the radius of every class is 0 A, expected more than 0"),
        (("--model", "MODEL", "--min-confidence", 0), "min_confidence is 0, expected a number between 0 and 1"),
        (("--model", "MODEL", "--min-confidence", 1), "min_confidence is 1, expected a number between 0 and 1"),
        (("--model", "MODEL", "--table", "found.xyz"), "has the suffix '.xyz', expected "),
        (("--model", "general"), "the model knows no classes, but no class 'background'"),
        (("--model", "dense"), "the model knows no classes, but no class 'background'"),
        (("--model", "absent"), "absent: folder is missing, expected a run, a model, or the name of a shipped one"),
        (("--model", "MODEL", "--stride", 0), "stride is 0, expected a multiple of 1"),
        (("--model", "MODEL", "--workers", -1), "workers is -1, expected 0 or more"),
        (("--labels", "absent.star"), "absent.star"),
        (("--labels", "UNNAMED"), "names no class among"),
        (("--labels", "PICKS"), "size of tomogram tomogram_002 is unknown"),
        (("--labels", "ELSEWHERE"), "tomogram names of the particles have no tomogram: 'elsewhere'"),
        (("--labels", "OUTSIDE"), "lie outside their tomogram; the worst is"),
        (("--labels", "HERE", "--detector.model", "general"), "expected dense"),
        (
            ("--labels", "HERE", "--detector.model", "dense"),
            "is 16 but dense was trained at 10 A; give that, or",
        ),
        (("--model", "MODEL", "--masks", "FOLDER"), "holds masks of tomogram_002, expected one for each of tomogram_0"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(
    world: Any,
    scanned: Path,
    picks: Path,
    refuse: Refuse,
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    words: tuple[object, ...],
    sentence: str,
) -> None:
    folder = tmp_path_factory.mktemp("inputs")
    truth = read(world, picks)
    here = truth.select(truth.tomogram.astype(str) == "tomogram_001")
    tables = {
        "ELSEWHERE": replace(here, tomogram=np.full(len(here), "elsewhere", dtype=object)),
        "HERE": here,
        "OUTSIDE": here.with_geometry(here.position_zyx_angstrom + 5000.0),
        "UNNAMED": replace(here, class_name=np.full(len(here), "", dtype=object), columns=here.columns.iloc[:, :0]),
    }
    known: dict[object, object] = {"MODEL": scanned / "detector", "PICKS": picks, "FOLDER": folder / "masks"}
    for name, table in tables.items():
        known[name] = folder / f"{name.lower()}.csv"
        if name in words:
            write_particles(folder / f"{name.lower()}.csv", replace(table, source=""), voxel_spacing_angstrom=SPACING)
    if "FOLDER" in words:
        write_volume(folder / "masks" / "tomogram_002.mrc", np.ones((24, 64, 64), dtype=np.int8), SPACING)
    quick = QUICK[4:] if "general" in words else QUICK[2:] if "dense" in words else QUICK
    options = [known.get(word, word) for word in words]
    assert sentence in refuse("scan", tomogram(world, 1), "--out", tmp_path / "out", *quick, *options)


def test_detector_of_other_settings_is_kept(scan_words: tuple[object, ...], scanned: Path, refuse: Refuse) -> None:
    before = state(scanned / "detector" / "result")
    assert "give another --out" in refuse(*scan_words, "--out", scanned, "--seed", 7)
    assert state(scanned / "detector" / "result") == before


def test_detector_without_its_last_file_is_finished(
    scan_words: tuple[object, ...], scanned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a full disk: weights are there, and what says what they are is not."""
    card = scanned / "detector" / "result" / "model.json"
    before = card.read_text()
    card.unlink()
    run(*scan_words, "--out", scanned)
    assert card.read_text() == before


def test_scan_without_picks_is_refused_with_advice(
    world: Any, scanned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_volume(tmp_path / "masks" / "tomogram_001.mrc", np.zeros((24, 64, 64), dtype=np.int8), SPACING)
    with pytest.raises(SystemExit) as end:
        run(
            "scan",
            tomogram(world, 1),
            "--model",
            scanned / "detector",
            "--masks",
            tmp_path / "masks",
            "--out",
            tmp_path,
        )
    assert end.value.code == 2
    assert "nothing was picked in 1 tomograms; lower --min-confidence" in capsys.readouterr().err
