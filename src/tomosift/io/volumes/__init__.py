"""Volumes on disk (MRC, EM, TIFF, OME-Zarr): one function opens any format, another writes by suffix.

An opened volume (`Volume`) has axes z, y, x whatever the order in the file. Each format is one module; `mrc_header`,
`zarr_metadata` and `zarr_chunks` are parts of theirs.
"""

from pathlib import Path
from typing import Any

from numpy.typing import DTypeLike

from tomosift.errors import FormatError
from tomosift.io.file_content import COMPRESSED_SUFFIXES, check_regular, named_errors
from tomosift.io.volumes import em, mrc, tiff, zarr
from tomosift.io.volumes.mrc_header import HEADER_BYTES
from tomosift.io.volumes.volume import SupportsSlicing, Volume

__all__ = ["VOLUME_SUFFIXES", "SupportsSlicing", "Volume", "is_volume_path", "open_volume", "write_volume"]

VOLUME_SUFFIXES = (*mrc.SUFFIXES, *em.SUFFIXES, *tiff.SUFFIXES, *zarr.SUFFIXES)
_TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_FOREIGN = {
    b"\x89HDF": ("an HDF5 file", "convert it to MRC first"),
    b"\x93NUM": ("a NumPy file", "convert it to MRC first"),
    b"\x89PNG": ("a PNG image", "give a volume"),
    b"PK\x03\x04": ("a zip archive", "unpack it first"),
    b"DM3\x00": ("a Digital Micrograph file", "convert it to MRC first"),
}


def is_volume_path(path: Path) -> bool:
    """Whether the name (not the content) is that of a volume this package reads."""
    return _suffix(Path(path)) in VOLUME_SUFFIXES


def open_volume(path: Path | str) -> Volume:
    """Open a volume of any format, lazily where the format allows.

    The first bytes go before the suffix, so a TIFF named .mrc opens as TIFF.

    Parameters
    ----------
    path
        A file, or the folder of an OME-Zarr group or array.

    Returns
    -------
    Volume
        Axes z, y, x; contrast as in the file.

    Raises
    ------
    FormatError
        There is no such file, it is of no known format, or it breaks its format.

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_volume(Path(folder, "a.mrc"), np.zeros((4, 5, 6), np.float32), 10.0)
    ...     volume = open_volume(Path(folder, "a.mrc"))
    ...     volume.shape_zyx, volume.voxel_spacing_angstrom
    ((4, 5, 6), 10.0)
    """
    path = Path(path)
    check_regular(path)
    with named_errors(path, "a volume"):
        return _open_volume(path)


def _open_volume(path: Path) -> Volume:
    if not path.exists():
        raise FormatError(path, "file", "missing", "a volume", "check the path")
    if path.is_dir():
        if zarr.is_zarr(path) or path.suffix.lower() in zarr.SUFFIXES:
            return zarr.open_volume(path)
        raise FormatError(path, "volume", "a folder", "a file or an OME-Zarr group", "name one file of it")
    with path.open("rb") as stream:
        head = stream.read(HEADER_BYTES)
    suffix = _suffix(path)
    if head[:4] in _FOREIGN:
        got, advice = _FOREIGN[head[:4]]
        raise FormatError(path, "content", got, "MRC, EM, TIFF or OME-Zarr", advice)
    if head[:4] in _TIFF_MAGIC:
        return tiff.open_volume(path)
    if head[208:211] == b"MAP" or suffix in mrc.SUFFIXES:
        return mrc.open_volume(path)
    if suffix in em.SUFFIXES:
        return em.open_volume(path)
    if suffix in tiff.SUFFIXES:
        return tiff.open_volume(path)
    known = ", ".join(VOLUME_SUFFIXES)
    raise FormatError(path, "suffix", path.suffix or "missing", f"one of {known}", "rename or convert the file")


def write_volume(
    path: Path | str,
    data_zyx: Any,
    voxel_spacing_angstrom: float | None,
    *,
    origin_zyx_angstrom: tuple[float, float, float] = (0.0, 0.0, 0.0),
    dtype: DTypeLike | None = None,
) -> None:
    """Write ``(z, y, x)`` in the format of the suffix; the file (or zarr folder) is complete or absent.

    EM holds neither spacing nor origin, and TIFF no origin: what the format cannot hold is left out.

    Parameters
    ----------
    path
        Ends in one of `VOLUME_SUFFIXES`.
    data_zyx
        ``(z, y, x)``
    voxel_spacing_angstrom
        None is unknown.
    origin_zyx_angstrom
        Position of the center of voxel 0.
    dtype
        Number format; by default the data's own where the file format has it, else float32.

    Raises
    ------
    ValueError
        The suffix is not that of a volume, or the array is not a volume.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix in mrc.SUFFIXES:
        mrc.write_volume(path, data_zyx, voxel_spacing_angstrom, origin_zyx_angstrom=origin_zyx_angstrom, dtype=dtype)
    elif suffix in zarr.SUFFIXES:
        zarr.write_volume(path, data_zyx, voxel_spacing_angstrom, origin_zyx_angstrom=origin_zyx_angstrom, dtype=dtype)
    elif suffix in em.SUFFIXES and path.suffix.lower() == suffix:
        em.write_volume(path, data_zyx, voxel_spacing_angstrom, dtype=dtype)
    elif suffix in tiff.SUFFIXES and path.suffix.lower() == suffix:
        tiff.write_volume(path, data_zyx, voxel_spacing_angstrom, dtype=dtype)
    else:
        raise ValueError(
            f"{path} ends in {''.join(path.suffixes[-2:])!r}, expected one of {', '.join(VOLUME_SUFFIXES)}"
        )


def _suffix(path: Path) -> str:
    """Return the suffix that names the format: the one before .gz or .bz2."""
    name = path.with_suffix("") if path.suffix.lower() in COMPRESSED_SUFFIXES else path
    return name.suffix.lower()
