"""Subtomograms of other programs: folders, stacks and tables, and files that only resemble subtomograms."""

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from tomosift.errors import FormatError
from tomosift.io.subtomogram_files import SubtomogramFiles, open_subtomogram_files
from tomosift.io.volumes import em, mrc


def box(number: int, edge: int = 4) -> np.ndarray:
    """A subtomogram whose first voxel is its number."""
    return np.full((edge,) * 3, number, np.float32) + np.linspace(0, 0.5, edge**3, dtype=np.float32).reshape(
        (edge,) * 3
    )


def numbers(subtomograms: SubtomogramFiles) -> list[int]:
    """The numbers of the subtomograms, in order."""
    return [int(volume[0, 0, 0]) for _, chunk in subtomograms.chunks(2) for volume in chunk]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "boxes"
    for number in (1, 2, 10):
        mrc.write_volume(path / f"p{number}.mrc", box(number), 12.0)
    return path


def write_star(path: Path, names: list[str], more: str = "") -> None:
    """A RELION 3 table of these images."""
    labels = ["rlnImageName", "rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ", "rlnPixelSize"]
    lines = ["data_", "", "loop_", *[f"_{label} #{k + 1}" for k, label in enumerate(labels)]]
    lines += [f"{name} tomo{k}.mrc {10 * k + 1} 2 3 12.0" for k, name in enumerate(names)]
    path.write_text("\n".join([*lines, more, ""]))


def test_folder_is_read_in_natural_order(folder: Path) -> None:
    subtomograms = open_subtomogram_files(folder)
    assert (len(subtomograms), subtomograms.box_size, subtomograms.voxel_spacing_angstrom) == (3, 4, 12.0)
    assert subtomograms.particles.particle_id.tolist() == ["p1.mrc", "p2.mrc", "p10.mrc"]
    assert set(subtomograms.particles.tomogram) == {"boxes"}
    assert np.isnan(subtomograms.particles.position_zyx_angstrom).all()
    assert set(subtomograms.particles.class_name) == {""}
    assert numbers(subtomograms) == [1, 2, 10]


def test_chunks_cover_every_subtomogram_once(folder: Path) -> None:
    subtomograms = open_subtomogram_files(folder)
    for size in (1, 2, 3, 50):
        chunks = list(subtomograms.chunks(size))
        assert np.concatenate([rows for rows, _ in chunks]).tolist() == [0, 1, 2]
        assert all(volumes.shape == (len(rows), 4, 4, 4) for rows, volumes in chunks)
        assert all(volumes.dtype == np.float32 for _, volumes in chunks)
    with pytest.raises(ValueError, match="chunk size is 0"):
        next(subtomograms.chunks(0))


def test_subtomograms_are_read_by_row_in_any_order(folder: Path) -> None:
    subtomograms = open_subtomogram_files(folder)
    np.testing.assert_array_equal(subtomograms.volumes([2, 0]), np.stack([box(10), box(1)]))


def test_opening_reads_headers_only(folder: Path) -> None:
    subtomograms = open_subtomogram_files(folder)
    path = folder / "p2.mrc"
    path.write_bytes(path.read_bytes()[:1100])
    assert len(open_subtomogram_files(folder)) == 3
    with pytest.raises(FormatError, match="cut short"):
        subtomograms.volumes([1])


def test_subfolders_are_tomograms(tmp_path: Path) -> None:
    for name in ("a", "b"):
        mrc.write_volume(tmp_path / name / "p1.mrc", box(1), 12.0)
    subtomograms = open_subtomogram_files(tmp_path)
    assert subtomograms.particles.tomogram.tolist() == ["a", "b"]
    assert subtomograms.particles.particle_id.tolist() == ["a/p1.mrc", "b/p1.mrc"]


def test_companion_files_are_left_out(folder: Path) -> None:
    for name in ("p1_ctf.mrc", "p2_weights.mrc"):
        mrc.write_volume(folder / name, box(99, 6), 12.0)
    subtomograms = open_subtomogram_files(folder)
    assert numbers(subtomograms) == [1, 2, 10]
    assert "2 files beside the subtomograms" in subtomograms.notes[0]


def test_em_and_compressed_files_are_read(tmp_path: Path) -> None:
    em.write_volume(tmp_path / "p1.em", box(1), None)
    mrc.write_volume(tmp_path / "p2.mrc.gz", box(2), 12.0)
    mrc.write_volume(tmp_path / "p3.map", box(3), 12.0)
    subtomograms = open_subtomogram_files(tmp_path)
    assert numbers(subtomograms) == [1, 2, 3]
    assert subtomograms.voxel_spacing_angstrom == 12.0


def test_mixed_sizes_and_spacings_are_refused(folder: Path) -> None:
    mrc.write_volume(folder / "p3.mrc", box(3), 10.0)
    with pytest.raises(FormatError, match=r"10 A, expected 12 A as in p1.mrc"):
        open_subtomogram_files(folder)
    assert open_subtomogram_files(folder, voxel_spacing_angstrom=12.0).voxel_spacing_angstrom == 12.0
    mrc.write_volume(folder / "p3.mrc", box(3, 5), 12.0)
    with pytest.raises(FormatError, match=r"box size is 5, expected 4 as in p1.mrc"):
        open_subtomogram_files(folder)


def test_stated_spacing_goes_before_the_headers_and_the_difference_is_noted(folder: Path) -> None:
    subtomograms = open_subtomogram_files(folder, voxel_spacing_angstrom=10.0)
    assert subtomograms.voxel_spacing_angstrom == 10.0
    assert "headers say 12 A; the requested 10 A was used" in subtomograms.notes[0]
    with pytest.raises(ValueError, match="positive length"):
        open_subtomogram_files(folder, voxel_spacing_angstrom=0.0)


def test_unknown_spacing_is_noted(tmp_path: Path) -> None:
    mrc.write_volume(tmp_path / "p.mrc", box(1), None)
    subtomograms = open_subtomogram_files(tmp_path / "p.mrc")
    assert subtomograms.voxel_spacing_angstrom is None
    assert "do not state a voxel size" in subtomograms.notes[0]


@pytest.mark.parametrize("form", ["space group 401", "sampling of one subtomogram", "one long volume"])
def test_stacks_of_volumes_are_split_lazily(tmp_path: Path, form: str) -> None:
    path, data = tmp_path / "stack.mrcs", np.stack([box(n) for n in (5, 6, 7)])
    if form == "space group 401":
        mrc.write_volume(path, data, 12.0, stack=True)
    else:
        mrc.write_volume(path, data.reshape(12, 4, 4), 12.0)
        if form == "sampling of one subtomogram":
            with mrcfile.open(path, "r+") as file:
                file.header.mz, file.header.ispg = 4, 0
                file.header.cella.z = 48.0
    subtomograms = open_subtomogram_files(path)
    assert (len(subtomograms), subtomograms.box_size, subtomograms.voxel_spacing_angstrom) == (3, 4, 12.0)
    assert numbers(subtomograms) == [5, 6, 7]
    assert subtomograms.particles.particle_id.tolist() == [f"00000{k}@stack.mrcs" for k in (1, 2, 3)]
    assert bool(subtomograms.notes) == (form == "one long volume")


@pytest.mark.parametrize("count", [4, 8, 37])
def test_stacks_of_tilt_images_are_refused(tmp_path: Path, count: int) -> None:
    path = tmp_path / "p.mrcs"
    with mrcfile.new(path) as file:
        file.set_data(np.zeros((count, 4, 4), np.float16))
        file.header.ispg, file.header.mz = 0, count
    with pytest.raises(FormatError, match=f"{count} images of 4 x 4: a stack of two-dimensional tilt images"):
        open_subtomogram_files(path)


def test_volumes_that_are_not_cubes_are_refused(tmp_path: Path) -> None:
    mrc.write_volume(tmp_path / "p.mrc", np.zeros((4, 5, 6), np.float32), 12.0)
    with pytest.raises(FormatError, match="6 x 5 x 4, expected a cube"):
        open_subtomogram_files(tmp_path)


def test_csv_beside_the_files_gives_classes_and_order(folder: Path) -> None:
    rows = ["file,label,tomogram,x_vox,y_vox,z_vox,rot,tilt,psi,mine"]
    rows += ["p10.mrc,ribosome,T1,1,2,3,0,0,0,a", "p1.mrc,,T2,4,5,6,10,20,30,b"]
    (folder / "labels.csv").write_text("\n".join(rows))
    subtomograms = open_subtomogram_files(folder)
    assert numbers(subtomograms) == [10, 1]
    assert subtomograms.particles.class_name.tolist() == ["ribosome", ""]
    assert subtomograms.particles.tomogram.tolist() == ["T1", "T2"]
    assert subtomograms.particles.columns["mine"].tolist() == ["a", "b"]
    np.testing.assert_allclose(subtomograms.particles.position_zyx_angstrom, [[36, 24, 12], [72, 60, 48]])
    np.testing.assert_allclose(subtomograms.particles.rotation[0], np.eye(3), atol=1e-12)


def test_csv_may_name_files_without_suffix_and_classes_by_number(folder: Path) -> None:
    (folder / "truth.csv").write_text("particle,class\np2,2\np1,\n")
    subtomograms = open_subtomogram_files(folder)
    assert numbers(subtomograms) == [2, 1]
    assert subtomograms.particles.class_name.tolist() == ["2", ""]


def test_table_without_names_follows_the_order_of_the_stack(tmp_path: Path) -> None:
    mrc.write_volume(tmp_path / "s.mrcs", np.stack([box(5), box(6)]), 12.0, stack=True)
    (tmp_path / "s.csv").write_text("label\na\nb\n")
    assert open_subtomogram_files(tmp_path / "s.mrcs").particles.class_name.tolist() == ["a", "b"]
    (tmp_path / "s.csv").write_text("label\na\nb\nc\n")
    with pytest.raises(FormatError, match="3 rows for 2 subtomograms"):
        open_subtomogram_files(tmp_path / "s.mrcs")


def test_star_names_subtomograms_of_stacks_and_their_positions(tmp_path: Path) -> None:
    mrc.write_volume(tmp_path / "Extract" / "s.mrcs", np.stack([box(5), box(6)]), 12.0, stack=True)
    mrc.write_volume(tmp_path / "Extract" / "t.mrc", box(7), 12.0)
    (tmp_path / "Refine").mkdir()
    table = tmp_path / "Refine" / "data.star"
    write_star(table, ["000002@Extract/s.mrcs", "Extract/t.mrc", "000001@Extract/s.mrcs"])
    subtomograms = open_subtomogram_files(table)
    assert numbers(subtomograms) == [6, 7, 5]
    np.testing.assert_allclose(subtomograms.particles.position_zyx_angstrom[1], [36, 24, 132])
    assert subtomograms.particles.source == "relion3"
    assert "rlnImageName" in subtomograms.particles.columns


def test_star_without_usable_coordinates_still_names_subtomograms(folder: Path) -> None:
    labels = ["rlnImageName", "rlnTomoName", *(f"rlnCenteredCoordinate{a}Angst" for a in "XYZ")]
    text = "data_particles\n\nloop_\n" + "".join(f"_{label}\n" for label in labels)
    (folder / "data.star").write_text(text + "p2.mrc T1 1.0 2.0 3.0\np1.mrc T1 1.5 2.5 3.5\n")
    subtomograms = open_subtomogram_files(folder)
    assert numbers(subtomograms) == [2, 1]
    assert subtomograms.particles.tomogram.tolist() == ["T1", "T1"]
    assert np.isnan(subtomograms.particles.position_zyx_angstrom).all()
    assert "positions of the subtomograms are unknown" in subtomograms.notes[0]
    assert subtomograms.particles.source == "relion5"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["gone.mrc"], "gone.mrc, which does not exist"),
        (["000003@s.mrcs"], "but that file holds 2"),
        (["000000@s.mrcs"], "a number from 1 to 2"),
        (["s.mrcs"], "a stack of 2 subtomograms"),
    ],
)
def test_missing_images_are_named_by_row(tmp_path: Path, names: list[str], sentence: str) -> None:
    mrc.write_volume(tmp_path / "s.mrcs", np.stack([box(5), box(6)]), 12.0, stack=True)
    write_star(tmp_path / "data.star", ["000001@s.mrcs", *names])
    with pytest.raises(FormatError, match=sentence) as caught:
        open_subtomogram_files(tmp_path / "data.star")
    assert "row 2" in str(caught.value)


def test_two_tables_beside_the_files_must_be_chosen_from(folder: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text("file\np1.mrc\n")
    (folder / "other.csv").write_text("temperature\n5\n")
    with pytest.raises(FormatError, match=r"several: a.csv, b.csv"):
        open_subtomogram_files(folder)
    assert numbers(open_subtomogram_files(folder, table=folder / "b.csv")) == [1]


def test_subtomograms_with_nan_are_named_when_read(folder: Path) -> None:
    with mrcfile.mmap(folder / "p2.mrc", "r+") as file:
        file.data[0, 0, :2] = np.nan
    subtomograms = open_subtomogram_files(folder)
    with pytest.raises(FormatError, match=r"content of subtomogram p2.mrc is 2 of 64 voxels NaN or infinite"):
        subtomograms.volumes([1])


@pytest.mark.parametrize("content", ["", "file,label\n", '"unclosed\n'])
def test_broken_tables_are_refused_with_the_reason(folder: Path, content: str) -> None:
    (folder / "labels.csv").write_text(content)
    with pytest.raises(FormatError, match="table"):
        open_subtomogram_files(folder, table=folder / "labels.csv")


def test_empty_and_missing_folders_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="without MRC or EM files"):
        open_subtomogram_files(tmp_path)
    with pytest.raises(FormatError, match="subtomograms is missing"):
        open_subtomogram_files(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "count", "edge", "spacing", "classes"),
    [
        ("derived_real_ribosomes", 10, 32, 12.0, {"ribosome_70S"}),
        ("derived_real_microtubule", 73, 32, 10.52, {"microtubule", "background"}),
        ("jblaser_tiny", 32, 24, 5.0, {"1", "2"}),
        ("pytom_e2e", 3, 100, None, {""}),
    ],
)
def test_real_folders_are_read(
    real_data: Path, name: str, count: int, edge: int, spacing: float | None, classes: Any
) -> None:
    subtomograms = open_subtomogram_files(real_data / "subtomograms" / name)
    assert (len(subtomograms), subtomograms.box_size, subtomograms.voxel_spacing_angstrom) == (count, edge, spacing)
    assert set(subtomograms.particles.class_name) == classes
    assert sum(len(rows) for rows, _ in subtomograms.chunks(16)) == count


def test_real_tilt_image_stacks_of_warp_are_refused(real_data: Path) -> None:
    with pytest.raises(FormatError, match="37 images of 32 x 32: a stack of two-dimensional tilt images"):
        open_subtomogram_files(real_data / "subtomograms" / "warptools")


def test_real_subtomogram_equals_the_tomogram_where_its_table_says(real_data: Path) -> None:
    from tomosift.io.volumes import open_volume

    subtomograms = open_subtomogram_files(real_data / "subtomograms" / "derived_real_microtubule")
    tomogram = open_volume(real_data / "tomograms" / "cylindra_13pf_MT.tif").read()
    center = np.rint(subtomograms.particles.position_zyx_angstrom[5] / 10.52).astype(int)
    crop = tomogram[tuple(slice(c - 16, c + 16) for c in center)]
    assert abs(np.corrcoef(crop.ravel(), subtomograms.volumes([5])[0].ravel())[0, 1]) > 0.99
