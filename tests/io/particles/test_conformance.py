"""Every real table and odd map: what each gives is stated here, and half of each file never crashes a reader.

The lists are complete: a file that appears in the folder must be added with what is expected of it.
"""

import contextlib
import gzip
import json
import re
from pathlib import Path
from typing import get_args

import dynamotable
import emfile
import imodmodel
import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
from scipy.spatial.transform import Rotation

from tomosift.errors import FormatError
from tomosift.io.describe import describe
from tomosift.io.particles import FORMATS, read_particles, relion, write_particles
from tomosift.io.particles.registry import find_formats
from tomosift.io.particles.relion_blocks import Dialect
from tomosift.io.volumes import open_volume
from tomosift.particles import Grid, Particles

UNKNOWN = "content is of an unknown kind"
NOT_A_LIST = "expected a particle list"
FLAT = "lists of two-dimensional micrographs are not tomography"
NO_FOLDER = "expected a folder that exists"

TABLES: dict[str, int | str] = {
    "aitom/estimations_TS_0003.csv": 2000,
    "builab/SPEF1MT2_001_8.48Apx_particles.star.gz": 2500,
    "copick_configs/overlay_local.json": NO_FOLDER,
    "copick_configs/overlay_local_static_data_portal.json": NO_FOLDER,
    "copick_configs/overlay_s3_static_s3.json": "copy the project from s3:// to a disk",
    "cryocat/017.mdoc": UNKNOWN,
    "cryocat/017.tlt": UNKNOWN,
    "cryocat/017.xml": UNKNOWN,
    "cryocat/017_ctffind4.txt": "expected the three numbers x, y and z",
    "cryocat/R5_tutorial_run_tomograms.star": NOT_A_LIST,
    "cryocat/add_obj_sub_id.star": 2,
    "cryocat/au_1.em": 64,
    "cryocat/bin1.6_SG_j013_afterM_24k_subtomos_MN_Dyn_v2.tbl.gz": 24399,
    "cryocat/bin1_1deg_500.star": 2,
    "cryocat/bin6_TM_starfile.star": 177,
    "cryocat/col_missing.em": "motive list size is 19 x 11 x 1, expected 20 x particles x 1",
    "cryocat/correct111.mod": 161,
    "cryocat/dc02t01_ctf.star": NOT_A_LIST,
    "cryocat/empty089.mod": 74,
    "cryocat/relion5_TS_01_tilt.star": NOT_A_LIST,
    "cryocat/relion_3.0.star": 3,
    "cryocat/relion_3.1_optics.star": 3,
    "cryocat/relion_3.1_optics2.star": 3,
    "cryocat/relion_test.star": 3,
    "cryocat/ribosome.em": 1023,
    "cryocat/wedge_list.em": "motive list size is 3 x 2 x 1, expected 20 x particles x 1",
    "cryocat/wedge_list.star": NOT_A_LIST,
    "cryodrgn/FinalRefinement-OriginalParticles-PfCRT.star": FLAT,
    "cryodrgn/empiar_10076_7.star": "rlnCoordinateX of block data_ is missing",
    "cryodrgn/relion31.star": FLAT,
    "cryoet_alignment/convert__imod_1__newst.com": UNKNOWN,
    "cryoet_alignment/convert__imod_1__tilt.com": UNKNOWN,
    "cryoet_alignment/convert__imod_1__tilt_1.tlt": UNKNOWN,
    "cryoet_alignment/convert__imod_1__tilt_1.xf": UNKNOWN,
    "cryoet_alignment/newst.com": UNKNOWN,
    "cryoet_alignment/test.xf": UNKNOWN,
    "cryoet_alignment/test_CTF.txt": "expected the three numbers x, y and z",
    "cryoet_alignment/tilt.com": UNKNOWN,
    "czii_challenge/config_10439.json": NO_FOLDER,
    "deepfinder/object_list_valid.xml": 2490,
    "dynamo/t_double.tbl": 300,
    "imod/meshed_curvature_example.mod": 1176,
    "imod/point_sizes_example.mod": 18,
    "imod/two_contour_example.mod": 25,
    "portal_backend/annotation_foo-1.0.json": "content is an annotation's metadata",
    "portal_backend/copick.json": 4,
    "portal_backend/oriented_points.mod": 4,
    "portal_backend/points.csv": 3,
    "portal_backend/points.mod": 3,
    "portal_backend/points_tab_delim.csv": 3,
    "portal_backend/points_with_header.csv": 3,
    "portal_backend/relion_3_star.star": 6,
    "portal_backend/stopgap_star.star": NOT_A_LIST,
    "portal_backend/tardis.csv": 6,
    "portal_backend/tomogram_metadata.json": "content is the metadata of a tomogram",
    "pyseg/klass_particles.star": 60,
    "pytom/coords_tomogram_000_WBP.txt": 2,
    "pytom/example_starfile.star": 74,
    "pytom/gs04_ts_003.xml.gz": UNKNOWN,
    "pytom/pickpos_format.xml": 10,
    "pytom/relion_with_optics_group.star": FLAT,
    "pytom/subtomo_format.star": 1037,
    "relion/220728_TS_01.star": NOT_A_LIST,
    "relion/tilt_series.star": NOT_A_LIST,
    "relion3_chlamy/clathrin.star.gz": 5999,
    "relion3_chlamy/microtubule.star.gz": 27251,
    "relion5_cylindra/Picks__job_picks__particles.star": 5,
    "relion5_cylindra/Refine3D__job_refine__run_it050_data.star": 5,
    "relion5_cylindra/Refine3D__job_refine__run_it050_optimisation_set.star": NOT_A_LIST,
}
"""Number of particles, or part of the sentence that says why there are none."""

MAPS: dict[str, tuple[int, int, int] | str] = {
    "EMD-3197.map": (20, 20, 20),
    "EMD-3197.map.bz2": (20, 20, 20),
    "emd_3197.map.gz": (20, 20, 20),
    "README.txt": "suffix is .txt",
}

SPACING = 7.3
GRIDS = {name: Grid((31, 63, 101), SPACING) for name in ("TS_01", "TS_02")}


def read(path: Path, format: str | None = None) -> Particles:
    return read_particles(path, voxel_spacing_angstrom=SPACING, grids=GRIDS, format=format)


def count_independently(path: Path, folder: Path) -> int | None:
    """Number of particles by an independent reader; None where there is none."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".star"):
        if path.suffix == ".gz":
            (folder / name).write_bytes(gzip.decompress(path.read_bytes()))
            path = folder / name
        return max(
            len(block) for block in starfile.read(path, always_dict=True).values() if isinstance(block, pd.DataFrame)
        )
    if name.endswith(".tbl"):
        return len(dynamotable.read(str(path)))
    if name.endswith(".em"):
        return int(emfile.read(path)[1].shape[1])
    if name.endswith(".mod"):
        return len(imodmodel.read(path))
    if name.endswith(".xml"):
        return len(re.findall(r"<(?:object|Particle) ", path.read_text()))
    if name.endswith(".json"):
        return len(json.loads(path.read_text())["points"])
    return None


def test_every_table_of_the_folder_is_listed(real_data: Path) -> None:
    folder = real_data / "metadata"
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(TABLES)


def test_every_odd_map_of_the_folder_is_listed(real_data: Path) -> None:
    assert {path.name for path in (real_data / "maps" / "mrcfile_conformance").iterdir()} == set(MAPS)


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_read_or_refused_as_expected(real_data: Path, tmp_path: Path, name: str) -> None:
    path, expected = real_data / "metadata" / name, TABLES[name]
    if isinstance(expected, str):
        with pytest.raises(FormatError, match=re.escape(expected)):
            read(path)
        return
    particles = read(path)
    assert len(particles) == expected
    assert np.isfinite(particles.position_zyx_angstrom).all()
    assert all(particles.tomogram)
    independent = None if "aitom" in name else count_independently(path, tmp_path)
    assert independent in (None, expected)


@pytest.mark.parametrize("name", MAPS)
def test_each_odd_map_is_read_or_refused_as_expected(real_data: Path, name: str) -> None:
    path, expected = real_data / "maps" / "mrcfile_conformance" / name, MAPS[name]
    if isinstance(expected, str):
        with pytest.raises(FormatError, match=re.escape(expected)):
            open_volume(path)
        return
    volume = open_volume(path)
    assert volume.shape_zyx == expected
    with mrcfile.open(path, permissive=True) as independent:
        order = np.argsort([3 - independent.header[axis] for axis in ("maps", "mapr", "mapc")])
        np.testing.assert_array_equal(volume.read(), independent.data.transpose(order))


@pytest.mark.parametrize("name", [*(f"metadata/{n}" for n in TABLES), *(f"maps/mrcfile_conformance/{n}" for n in MAPS)])
def test_half_a_file_is_refused_or_read_but_never_crashes(real_data: Path, tmp_path: Path, name: str) -> None:
    whole = (real_data / name).read_bytes()
    half = tmp_path / Path(name).name
    half.write_bytes(whole[: len(whole) // 2])
    for attempt in (read, describe, open_volume):
        with contextlib.suppress(FormatError):
            attempt(half)


@pytest.mark.parametrize("name", [n for n in TABLES if n.endswith(".gz")])
def test_a_half_of_the_unpacked_text_is_refused_or_read(real_data: Path, tmp_path: Path, name: str) -> None:
    whole = gzip.decompress((real_data / "metadata" / name).read_bytes())[:40000]
    half = tmp_path / Path(name).stem
    half.write_bytes(whole[: len(whole) // 2 + 3])
    with contextlib.suppress(FormatError):
        read(half)


DIALECTS = [("relion", ".star", dialect) for dialect in get_args(Dialect)]
WAYS = DIALECTS + [
    (name, suffix, "") for name, declared in find_formats().items() if name != "relion" for suffix in declared.suffixes
]
"""Name, suffix and dialect of everything that can be written."""


def send_through(folder: Path, way: tuple[str, str, str], particles: Particles) -> Particles:
    """Write the particles in one format and read them again."""
    folder.mkdir()
    name, suffix, dialect = way
    path = folder / f"TS_01{suffix}"
    if dialect:
        relion.write_particles(path, particles, voxel_spacing_angstrom=SPACING, grids=GRIDS, dialect=dialect)
    else:
        write_particles(path, particles, voxel_spacing_angstrom=SPACING, grids=GRIDS, format=name)
    return read(path, name)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_tests_of_its_own(name: str) -> None:
    assert Path(__file__).with_name(f"test_{name}.py").is_file()


@pytest.mark.parametrize("first", WAYS, ids="".join)
def test_off_center_particles_survive_the_way_from_each_format_to_every_other(
    tmp_path: Path, first: tuple[str, str, str]
) -> None:
    rotation = Rotation.from_euler("ZYZ", [[23, 57, -101], [-170, 121, 8], [91, 3, -45]], degrees=True).as_matrix()
    position = SPACING * np.array([[3.25, 60.1, 7.7], [29.9, 0.05, 99.3], [12.0, 31.5, 50.5]])
    particles = Particles.create(["TS_01"] * 3, position, rotation=rotation, class_name=["class 2"] * 3)
    once = send_through(tmp_path / "once", first, particles)
    for back in (once, *(send_through(tmp_path / "".join(way), way, once) for way in WAYS)):
        np.testing.assert_allclose(back.position_zyx_angstrom, position, atol=0.01 * SPACING)
        is_oriented = np.isfinite(back.rotation).all(axis=(1, 2))
        assert is_oriented.all() or not is_oriented.any()
        np.testing.assert_allclose(back.rotation[is_oriented], rotation[is_oriented], atol=1e-4)
        assert [str(tomogram).removesuffix(".tomostar") for tomogram in back.tomogram] == ["TS_01"] * 3
