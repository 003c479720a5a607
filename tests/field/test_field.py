"""What users bring, one scenario of each kind, through `check`, `extract`, `sort` and `scan` as a user types them.

Every scenario ends in one of three ways: right (a blob in the center of every subtomogram), right with a note that says
what was taken for granted, or refused with one sentence, which is the same in every command.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.io.volumes import write_volume

Blobs = Mapping[str, tuple[NDArray[np.float64], NDArray[np.float32]]]
Run = Callable[..., Any]
NAMES, SHAPE, SPACING = ("TS_01", "TS_02"), (30, 52, 60), 10.0


@dataclass(frozen=True)
class Input:
    """What the user gives."""

    picks: Path
    tomograms: tuple[Path, ...]
    options: tuple[object, ...] = ()


@dataclass(frozen=True)
class Scenario:
    """A kind of input and how it ends."""

    build: Callable[[Path, Blobs], Input]
    ends: Literal["right", "refused"]
    words: str = ""
    """Of the note, or of the sentence."""
    tolerance: float = field(default=0.15)
    """Voxels by which blobs may be off."""


def measure_offsets(folder: Path) -> NDArray[np.float64]:
    """(n, 3) centers of mass of the blobs relative to the center voxel of their subtomogram, in voxels."""
    subtomograms = open_subtomograms(folder)
    size = subtomograms.box_size
    grid = np.indices((size,) * 3) - size // 2
    near = np.linalg.norm(grid, axis=0) <= 4.5
    offsets = []
    for box in subtomograms.volumes(np.arange(len(subtomograms))):
        weight = np.clip(box - np.quantile(box, 0.6), 0, None) * near
        offsets.append((grid * weight).sum(axis=(1, 2, 3)) / weight.sum())
    return np.array(offsets)


def write_star(path: Path, columns: dict[str, list[str]], optics: dict[str, str] | None = None) -> Path:
    """Write a STAR file with particles, and one optics group."""
    text = ""
    if optics is not None:
        text += "data_optics\n\nloop_\n_rlnOpticsGroup\n" + "".join(f"_{label}\n" for label in optics)
        text += " ".join(["1", *optics.values()]) + "\n\n\n"
        columns = {**columns, "rlnOpticsGroup": ["1"] * len(next(iter(columns.values())))}
    text += "data_particles\n\nloop_\n" + "".join(f"_{label}\n" for label in columns)
    text += "".join(" ".join(row) + "\n" for row in zip(*columns.values(), strict=True))
    path.write_text(text)
    return path


def picks_of(blobs: Blobs, names: Mapping[str, str] | None = None, scale: float = 1.0) -> dict[str, list[str]]:
    """RELION 4 columns with the centers of the blobs; names maps tomograms to what the table calls them."""
    called = {name: name for name in NAMES} if names is None else names
    rows = [(called[name], center * scale) for name in called for center in blobs[name][0]]
    columns = {"rlnTomoName": [name for name, _ in rows]}
    columns |= {f"rlnCoordinate{axis}": [f"{center[2 - k]:.4f}" for _, center in rows] for k, axis in enumerate("XYZ")}
    return columns


def simple(
    names: Mapping[str, str] | None = None, scale: float = 1.0, pixel: str = "10", **options: Any
) -> Callable[[Path, Blobs], Input]:
    """A STAR table of all blobs, and both tomograms."""

    def build(folder: Path, blobs: Blobs) -> Input:
        optics = {"rlnTomoTiltSeriesPixelSize": pixel, **options.get("optics", {})}
        picks = write_star(folder / "picks.star", picks_of(blobs, names, scale), optics)
        return Input(picks, (folder / "TS_01.mrc", folder / "TS_02.mrc"), options.get("typed", ()))

    return build


def name_with_dot(folder: Path, blobs: Blobs) -> Input:
    (folder / "TS_01.mrc").rename(folder / "pos_5.1.mrc")
    picks = write_star(
        folder / "picks.star", picks_of(blobs, {"TS_01": "pos_5.1", "TS_02": "pos_5.2"}),
        {"rlnTomoTiltSeriesPixelSize": "10"},
    )  # fmt: skip
    return Input(picks, (folder / "pos_5.1.mrc",))


def namesakes(folder: Path, blobs: Blobs) -> Input:
    for grid, name in (("grid1", "TS_01"), ("grid2", "TS_02")):
        (folder / grid).mkdir()
        (folder / f"{name}.mrc").rename(folder / grid / "TS.mrc")
    names = {"TS_01": "grid1/TS", "TS_02": "grid2/TS"}
    picks = write_star(folder / "picks.star", picks_of(blobs, names), {"rlnTomoTiltSeriesPixelSize": "10"})
    return Input(picks, (folder / "grid1/TS.mrc", folder / "grid2/TS.mrc"))


def no_tomogram_column(folder: Path, blobs: Blobs) -> Input:
    columns = picks_of(blobs, {"TS_01": "TS_01"})
    del columns["rlnTomoName"]
    return Input(write_star(folder / "picks.star", columns, {"rlnMicrographPixelSize": "10"}), (folder / "TS_01.mrc",))


def byte_order_mark(folder: Path, blobs: Blobs) -> Input:
    given = simple()(folder, blobs)
    given.picks.write_bytes(b"\xef\xbb\xbf" + given.picks.read_bytes())
    return given


def name_of_a_block(folder: Path, blobs: Blobs) -> Input:
    (folder / "TS_02.mrc").rename(folder / "data_02.mrc")
    names = {"TS_01": "TS_01", "TS_02": "data_02"}
    picks = write_star(folder / "picks.star", picks_of(blobs, names), {"rlnTomoTiltSeriesPixelSize": "10"})
    return Input(picks, (folder / "TS_01.mrc", folder / "data_02.mrc"))


def dynamo(pixel_in_voxels: float, names: str = "picks.doc") -> Callable[[Path, Blobs], Input]:
    def build(folder: Path, blobs: Blobs) -> Input:
        rows = []
        for number, name in enumerate(NAMES, 1):
            for z, y, x in blobs[name][0] / pixel_in_voxels + 0.5:
                row = ["0"] * 35
                row[0], row[19], row[23:26] = str(len(rows) + 1), str(number), [f"{v:.4f}" for v in (x, y, z)]
                rows.append(" ".join(row))
        (folder / "picks.tbl").write_text("\n".join(rows) + "\n")
        (folder / names).write_text("1\t/data/TS_01.mrc\n2 /data/TS_02.mrc\n")
        return Input(folder / "picks.tbl", (folder / "TS_01.mrc", folder / "TS_02.mrc"))

    return build


def centered_odd_sizes(folder: Path, blobs: Blobs) -> Input:
    sizes = np.array(SHAPE[::-1]) * 4 + np.array([1, 3, 2])
    half = sizes * 2.5 / 2
    columns = {"rlnTomoName": [name for name in NAMES for _ in blobs[name][0]]}
    for k, axis in enumerate("XYZ"):
        values = [center[2 - k] * SPACING - half[k] for name in NAMES for center in blobs[name][0]]
        columns[f"rlnCenteredCoordinate{axis}Angst"] = [f"{value:.4f}" for value in values]
    picks = write_star(folder / "picks.star", columns, {"rlnTomoTiltSeriesPixelSize": "2.5"})
    labels = ["Name", "TiltSeriesPixelSize", "TomogramBinning", "SizeX", "SizeY", "SizeZ", "ReconstructedTomogram"]
    rows = [f"{name} 2.5 4 {' '.join(map(str, sizes))} {name}.mrc" for name in NAMES]
    head = "\n".join(f"_rlnTomo{label}" for label in labels)
    (folder / "tomograms.star").write_text(f"data_global\n\nloop_\n{head}\n" + "\n".join(rows) + "\n")
    return Input(picks, (folder / "tomograms.star",))


def dark(folder: Path, blobs: Blobs) -> Input:
    for name in NAMES:
        write_volume(folder / f"{name}.mrc", -blobs[name][1], SPACING)
    return simple()(folder, blobs)


def mirrored(folder: Path, blobs: Blobs) -> Input:
    turned = {name: (center * [-1, 1, 1] + [SHAPE[0] - 1, 0, 0], volume) for name, (center, volume) in blobs.items()}
    return simple()(folder, turned)


def other_tomograms_picks(folder: Path, blobs: Blobs) -> Input:
    return simple()(folder, {"TS_01": blobs["TS_02"], "TS_02": blobs["TS_01"]})


def one_outside(folder: Path, blobs: Blobs) -> Input:
    center = blobs["TS_01"][0].copy()
    moved = np.concatenate([center[:9], [[15.0, 26.0, 60.5]]])
    return simple()(folder, {**blobs, "TS_01": (moved, blobs["TS_01"][1])})


def second_column_of_tilts(folder: Path, blobs: Blobs) -> Input:
    for name in NAMES:
        (folder / f"{name}.tlt").write_text("".join(f"{angle} {k * 3}\n" for k, angle in enumerate(range(-60, 61, 3))))
    return simple()(folder, blobs)


def unreadable_tilts(folder: Path, blobs: Blobs) -> Input:
    for name in NAMES:
        (folder / f"{name}.aln").write_text("# AreTomo\n1 0 1 0 0 1 1 1 0 -60\n2 0 1 0 0 1 1 1 0 1.6e24\n")
        (folder / f"{name}.tlt").write_text("-60\n0\n60\n")
    return simple()(folder, blobs)


SCENARIOS = {
    "suffixes of names": Scenario(simple({"TS_01": "TS_01.tomostar", "TS_02": "rec_TS_02_10.00Apx.mrc"}), "right"),
    "other folders": Scenario(simple({"TS_01": "job1/TS_01", "TS_02": "job1/TS_02"}), "right", "other folders"),
    "name with a dot": Scenario(name_with_dot, "refused", "'pos_5.2'; the tomograms are 'pos_5.1'"),
    "namesakes in folders": Scenario(namesakes, "right"),
    "similar name": Scenario(simple({"TS_01": "TS_01", "TS_02": "TS_2"}), "refused", "no tomogram: 'TS_2'"),
    "no tomogram column": Scenario(no_tomogram_column, "refused", "names no tomogram"),
    "byte order mark": Scenario(byte_order_mark, "right"),
    "name of a block": Scenario(name_of_a_block, "right"),
    "Dynamo, pixels of the tomogram": Scenario(dynamo(1.0), "right", "one pixel is taken to be one voxel of 10 A"),
    "Dynamo, other binning": Scenario(dynamo(2.0), "refused", "--picks-spacing"),
    "Dynamo's own list of names": Scenario(dynamo(1.0, "indices_column20.doc"), "right"),
    "centered, odd sizes": Scenario(centered_odd_sizes, "right"),
    "fractions": Scenario(simple(scale=0.016), "refused", "fractions of the tomogram"),
    "pixel size too small": Scenario(simple(pixel="5"), "refused", "rather than of 5 A; correct the pixel size"),
    "pixel size too large": Scenario(simple(pixel="20"), "refused", "rather than of 20 A; correct the pixel size"),
    "pixel of binned boxes": Scenario(
        simple(scale=4, pixel="-999", optics={"rlnTomoSubtomogramBinning": "2", "rlnImagePixelSize": "5"}), "right"
    ),
    "pixel size that is no number": Scenario(simple(pixel="nan", typed=("--picks-spacing", 10)), "right"),
    "dark density": Scenario(dark, "right", "the sign of the density is turned"),
    "wrong statement of contrast": Scenario(simple(typed=("--inverted",)), "refused", "leave out --inverted"),
    "mirrored": Scenario(mirrored, "refused", "mirrored"),
    "picks of the other tomogram": Scenario(other_tomograms_picks, "refused", "TS_02"),
    "one pick outside": Scenario(one_outside, "right", "left out"),
    "second column of tilts": Scenario(second_column_of_tilts, "right"),
    "unreadable tilts": Scenario(unreadable_tilts, "right", "passed over"),
    "range of tilts that is none": Scenario(
        simple(typed=("--tilt-range", "nan", 60)), "refused", "--tilt-range is nan"
    ),
    "box that no stage takes": Scenario(simple(typed=("--box-size", 3)), "refused", "box size is 3 voxels"),
}


@pytest.mark.parametrize("kind", SCENARIOS)
def test_scenario_ends_as_it_should(kind: str, field: Path, blobs: Blobs, run: Run) -> None:
    scenario, out = SCENARIOS[kind], field / "set"
    given = scenario.build(field, blobs)
    words: list[object] = [given.picks, "--tomograms", *given.tomograms, "--box-size", 12, *given.options]
    extracted = run("extract", *words, "--out", out)
    assert "Traceback" not in extracted.text
    assert scenario.words in " ".join(extracted.text.split())
    if scenario.ends == "right":
        assert extracted.code == 0, extracted.text
        assert np.abs(measure_offsets(out)).max() < scenario.tolerance
        return
    assert extracted.code == 2
    assert not (out / "set.json").exists()
    checked = run("check", *words)
    labels = write_labels(field / "labels.star", given.picks)
    sorted_ = run("sort", *words, "--labels", labels, "--out", field / "sorted")
    assert (checked.code, sorted_.code) == (2, 2)
    essence = re.sub(r"^the check found \d+ errors?, the first is: ", "", extracted.sentence)[:60]
    assert plain(essence) in plain(sorted_.text)
    assert plain(essence) in plain(checked.text)


def plain(text: str) -> str:
    """Text without blanks and the frames of tables."""
    return "".join(character for character in text if not character.isspace() and character not in "│┃")


def write_labels(path: Path, picks: Path) -> Path:
    """The picks themselves with two classes in turn, in their own format where that is STAR."""
    if picks.suffix != ".star":
        return picks
    text = picks.read_text()
    head, _, rows = text.rpartition("_rlnOpticsGroup\n")
    lines = [f"{row} {'ab'[k % 2]}" for k, row in enumerate(rows.splitlines()) if row.strip()]
    path.write_text(f"{head}_rlnOpticsGroup\n_tomosiftClass\n" + "\n".join(lines) + "\n")
    return path
