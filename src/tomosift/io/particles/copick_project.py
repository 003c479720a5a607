"""copick projects on disk: the configuration, its local roots, runs and tomograms.

Only local roots are read: of a project on S3 or on the data portal, its local overlay. Links that lead out of a root
are not followed, and nothing inside a file is ever used as a path except the configuration's own roots.

Source: copick's filesystem layout and its model ``CopickConfig``.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomosift.errors import FormatError
from tomosift.io.particles.portal import SPACING_FOLDER


@dataclass(frozen=True)
class Tomogram:
    """A tomogram of a project: its run, where it lies, its spacing and how it was made (``wbp``, ``denoised`` ...)."""

    run: str
    path: Path
    voxel_spacing_angstrom: float
    kind: str


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise FormatError(path, "content", "not JSON", "a copick configuration or picks file") from error
    if not isinstance(content, dict):
        raise FormatError(path, "content", f"a {type(content).__name__}", "a JSON object")
    return content


def _root(config: Path, field: str, value: Any) -> Path:
    """The local folder that a root of the configuration names; relative ones count from the configuration."""
    if not isinstance(value, str):
        raise FormatError(config, field, repr(value), "a folder such as local:///data/project")
    scheme, found, rest = value.partition("://")
    if found and scheme not in {"local", "file"}:
        raise FormatError(
            config, field, value, "a local folder", f"copy the project from {scheme}:// to a disk and name it there"
        )
    folder = Path(rest if found else value).expanduser()
    return folder if folder.is_absolute() else config.parent / folder


def roots(project: Path) -> list[Path]:
    """The project's local folders: the overlay, which may be written, before the static one.

    ``project`` is the configuration file or a root folder itself.

    Raises
    ------
    FormatError
        A root is not local, or the overlay does not exist.
    """
    if project.is_dir():
        return [project]
    config = read_json(project)
    if "pickable_objects" not in config:
        raise FormatError(project, "pickable_objects", "missing", "a list of objects", "name a copick configuration")
    found = [_root(project, name, config[name]) for name in ("overlay_root", "static_root") if config.get(name)]
    if not found:
        raise FormatError(project, "overlay_root", "missing", "a local folder")
    if not any(folder.is_dir() for folder in found):
        raise FormatError(project, "overlay_root", str(found[0]), "a folder that exists", "correct it in the file")
    return found


def object_names(config: Path) -> list[str]:
    """Names of the pickable objects of a configuration, in its order; empty for a folder."""
    if config.is_dir():
        return []
    objects = read_json(config).get("pickable_objects")
    if not isinstance(objects, list) or not all(isinstance(item, dict) and "name" in item for item in objects):
        raise FormatError(config, "pickable_objects", "malformed", "a list of objects with a name each")
    return [str(item["name"]) for item in objects]


def files_inside(root: Path, pattern: str) -> Iterator[Path]:
    """Files of a root, sorted; links that lead out of it are left alone."""
    home = root.resolve()
    yield from (path for path in sorted(root.glob(pattern)) if path.resolve().is_relative_to(home))


def list_tomograms(project: Path) -> list[Tomogram]:
    """Every OME-Zarr tomogram of the project, overlay before static, by run, spacing and kind."""
    found: dict[tuple[str, float, str], Tomogram] = {}
    for root in roots(project):
        for path in files_inside(root, "ExperimentRuns/*/VoxelSpacing*/*.zarr"):
            spacing = SPACING_FOLDER.fullmatch(path.parent.name)
            if spacing and "_" not in path.stem:  # features of a tomogram are <kind>_<feature>_features.zarr
                entry = Tomogram(path.parents[1].name, path, float(spacing[1]), path.stem)
                found.setdefault((entry.run, entry.voxel_spacing_angstrom, entry.kind), entry)
    return [found[key] for key in sorted(found)]


def plain_name(name: str) -> str:
    """A name as copick allows it in a file name: underscores become hyphens.

    Raises
    ------
    ValueError
        The name would lead to another folder.
    """
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"{name!r} cannot be a name in a copick project, expected one without / and leading dot")
    return name.replace("_", "-")
