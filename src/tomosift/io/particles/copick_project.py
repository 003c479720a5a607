"""copick projects on disk: the configuration, its local roots and the files below them.

Only local roots are read: of a project on S3 or on the data portal, its local overlay. Links that lead out of a root
are not followed. Nothing inside a file is used as a path except the configuration's own roots.

Source: copick's filesystem layout and its model ``CopickConfig``.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tomosift import files
from tomosift.errors import FormatError

RUNS_FOLDER = "ExperimentRuns"


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object of a configuration or picks file."""
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise FormatError(path, "content", f"a {type(content).__name__}", "a JSON object")
    return content


def _root_folder(config: Path, field: str, value: Any) -> Path:
    """Return the local folder that a root of the configuration names; relative ones count from the configuration."""
    if not isinstance(value, str):
        raise FormatError(config, field, repr(value), "a folder such as local:///data/project")
    scheme, separator, rest = value.partition("://")
    if separator and scheme not in {"local", "file"}:
        raise FormatError(
            config, field, value, "a local folder", f"copy the project from {scheme}:// to a disk and name it there"
        )
    folder = Path(rest if separator else value).expanduser()
    return folder if folder.is_absolute() else config.parent / folder


def root_folders(project: Path) -> list[Path]:
    """Return the project's local folders: the overlay, which may be written, before the static one.

    Parameters
    ----------
    project
        The configuration file, or a root folder itself.

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
    names = [name for name in ("overlay_root", "static_root") if config.get(name)]
    folders = [_root_folder(project, name, config[name]) for name in names]
    if not folders:
        raise FormatError(project, "overlay_root", "missing", "a local folder")
    if not any(folder.is_dir() for folder in folders):
        raise FormatError(project, "overlay_root", str(folders[0]), "a folder that exists", "correct it in the file")
    return folders


def object_names(config: Path) -> list[str]:
    """Return the names of the pickable objects of a configuration, in its order; none for a folder."""
    if config.is_dir():
        return []
    objects = read_json(config).get("pickable_objects")
    if not isinstance(objects, list) or not all(isinstance(item, dict) and "name" in item for item in objects):
        raise FormatError(config, "pickable_objects", "malformed", "a list of objects with a name each")
    return [str(item["name"]) for item in objects]


def list_files(root: Path, pattern: str) -> Iterator[Path]:
    """Yield the files of a root that match a pattern, sorted; links that lead out of the root are skipped."""
    home = root.resolve()
    yield from (path for path in sorted(root.glob(pattern)) if path.resolve().is_relative_to(home))


def plain_name(name: str) -> str:
    """Return a name as copick allows it in a file name: underscores become hyphens.

    Examples
    --------
    >>> plain_name("beta_amylase")
    'beta-amylase'

    Raises
    ------
    ValueError
        The name would lead to another folder.
    """
    if not name or "/" in name or "\\" in name or name.startswith("."):
        raise ValueError(f"{name!r} cannot be a name in a copick project, expected one without / and leading dot")
    return name.replace("_", "-")
