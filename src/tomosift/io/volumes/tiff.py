"""TIFF stacks: ImageJ, OME and plain; memory-mapped where the planes are uncompressed and contiguous."""

import logging
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.volumes.volume import Volume, check_spacing, cubic_spacing, storable

SUFFIXES = (".tif", ".tiff", ".btf")
WRITABLE = ("uint8", "uint16", "float32")
ANGSTROM_PER_UNIT = {
    "angstrom": 1.0,
    "å": 1.0,
    "pm": 0.01,
    "picometer": 0.01,
    "nm": 10.0,
    "nanometer": 10.0,
    "micron": 1e4,
    "micrometer": 1e4,
    "um": 1e4,
    "µm": 1e4,
    "μm": 1e4,
    "mm": 1e7,
    "millimeter": 1e7,
    "cm": 1e8,
    "centimeter": 1e8,
    "decimeter": 1e9,
    "m": 1e10,
    "meter": 1e10,
    "inch": 2.54e8,
    "femtometer": 1e-5,
    "attometer": 1e-8,
}
"""Length units as ImageJ, OME and OME-Zarr spell them, in lower case."""


logging.getLogger("tifffile").addHandler(logging.NullHandler())  # errors are sentences of ours
logging.getLogger("tifffile").propagate = False


def open_volume(path: Path) -> Volume:
    """Open a TIFF stack whose last two axes are y and x.

    The voxel size is taken from ImageJ or OME metadata that state it with a unit of length along all three axes. The
    bare resolution tags are ignored: they describe print.

    Raises
    ------
    FormatError
        The file is not TIFF, is damaged, is colored, or has more than one channel or time point.
    """
    path = Path(path)
    try:
        with tifffile.TiffFile(path) as tiff:
            series = tiff.series[0]
            axes, shape = series.axes, tuple(int(size) for size in series.shape)
            sizes, note = _sizes_zyx(tiff)
            stated = int((tiff.imagej_metadata or {}).get("images", 1))
    except Exception as error:  # tags that contradict each other raise whatever the parser meets
        got = "empty" if path.stat().st_size == 0 else f"damaged or not TIFF ({error})"
        raise FormatError(path, "TIFF structure", got, "a TIFF stack", "copy it again or convert it to MRC") from error
    if "S" in axes or len([size for size in shape if size > 1]) > 3 or axes[-2:] != "YX":
        got = f"axes {axes} of size {' x '.join(map(str, shape))}"
        raise FormatError(
            path, "TIFF content", got, "one gray channel with planes along z", "split or convert it first"
        )
    planes = int(np.prod(shape[:-2]))
    if stated > planes:
        got = f"{planes} of {stated} planes"
        raise FormatError(path, "TIFF content", got, "all of them", "the file is cut short: copy it again")
    try:
        data: NDArray[Any] = tifffile.memmap(path, mode="r")
    except ValueError:
        try:
            data = tifffile.imread(path)
        except (tifffile.TiffFileError, ValueError, OSError, IndexError) as error:
            raise FormatError(
                path, "TIFF planes", f"unreadable ({error})", f"{shape} voxels", "convert to MRC"
            ) from error
    spacing, reason = cubic_spacing(sizes, has_unit=True) if sizes is not None else (None, note)
    return Volume(path, data.reshape((-1, *shape[-2:])), spacing, (0.0, 0.0, 0.0), (reason,) if reason else ())


def write_volume(
    path: Path, data_zyx: Any, voxel_spacing_angstrom: float | None, *, dtype: DTypeLike | None = None
) -> None:
    """Write an ImageJ TIFF with one page per z; the voxel spacing is in nanometers.

    Parameters
    ----------
    path
        The file to write; it is complete or absent.
    data_zyx
        ``(z, y, x)``
    voxel_spacing_angstrom
        None is unknown.
    dtype
        uint8, uint16 or float32 (those that ImageJ reads); by default the data's own where it is one, else float32.
    """
    path, data = Path(path), np.asarray(data_zyx)
    check_spacing(voxel_spacing_angstrom)
    kind = storable(data, dtype, WRITABLE)
    if data.shape[2] == 1:
        raise ValueError("a TIFF plane is at least 2 voxels wide; write MRC instead")
    metadata: dict[str, Any] = {"axes": "ZYX"}
    resolution = None
    if voxel_spacing_angstrom is not None:
        spacing_nm = voxel_spacing_angstrom / 10.0
        metadata |= {"spacing": spacing_nm, "unit": "nm"}
        resolution = (1.0 / spacing_nm, 1.0 / spacing_nm)
    voxels = np.ascontiguousarray(data, dtype=kind)
    with written_then_renamed(path) as temporary:
        tifffile.imwrite(temporary, voxels, imagej=True, resolution=resolution, metadata=metadata)


def _sizes_zyx(tiff: Any) -> tuple[tuple[float, float, float] | None, str]:
    """Return voxel sizes in Angstrom, or None and the reason."""
    if tiff.ome_metadata:
        return _ome_sizes(tiff.ome_metadata)
    if not tiff.imagej_metadata:
        return None, "a plain TIFF does not state a voxel size"
    unit = str(tiff.imagej_metadata.get("unit", "")).replace("\\u00B5", "µ").replace("\\u00C5", "å").lower()
    tags = tiff.pages[0].tags
    if unit not in ANGSTROM_PER_UNIT or "XResolution" not in tags or "YResolution" not in tags:
        return None, f"the ImageJ unit is {unit or 'missing'}, so the voxel size is unknown"
    factor = ANGSTROM_PER_UNIT[unit]
    pixels_per_unit = [tags[name].value for name in ("YResolution", "XResolution")]
    across = [below / above if above else 0.0 for above, below in pixels_per_unit]
    along = float(tiff.imagej_metadata.get("spacing", across[0]))
    return (along * factor, across[0] * factor, across[1] * factor), ""


def _ome_sizes(text: str) -> tuple[tuple[float, float, float] | None, str]:
    """Return the voxel sizes of OME metadata in Angstrom, or None and the reason."""
    pixels = next((node for node in ElementTree.fromstring(text).iter() if node.tag.endswith("}Pixels")), None)
    sizes = []
    for axis in "ZYX":
        size = None if pixels is None else pixels.get(f"PhysicalSize{axis}")
        unit = "µm" if pixels is None else pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if size is None or unit.lower() not in ANGSTROM_PER_UNIT:
            return None, "the OME metadata states no voxel size along all three axes"
        sizes.append(float(size) * ANGSTROM_PER_UNIT[unit.lower()])
    return (sizes[0], sizes[1], sizes[2]), ""
