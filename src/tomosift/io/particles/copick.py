"""Picks of copick projects, read by user, session and object, written one file per run and object.

A pick is at ``location`` plus the translation of its 4 x 4 ``transformation_``, in Angstrom from the center of voxel
0. The rotation takes the object into the tomogram. Programs that know no orientation write the identity for every pick
of a file, so that is read as unknown. Picks are in ``ExperimentRuns/<run>/Picks/<user>_<session>_<object>.json`` below
the project's roots, see `tomosift.io.particles.copick_project`.

Source: copick's model ``CopickPicksFile``.
"""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import write_json
from tomosift.io.angles import swap_xyz_zyx
from tomosift.io.particles.copick_project import (
    RUNS_FOLDER,
    list_files,
    object_names,
    plain_name,
    read_json,
    root_folders,
)
from tomosift.io.particles.registry import Format, Opening
from tomosift.particles import Grid, Particles


def _is_copick(opening: Opening) -> bool:
    """Whether this is a project's configuration, its folder or a picks file."""
    is_project = (opening.path / RUNS_FOLDER).is_dir()
    return is_project or not opening.json_keys.isdisjoint({"pickable_objects", "pickable_object_name"})


FORMAT = Format(
    "A copick project (its configuration, .json) or one of its picks files.",
    suffixes=(".json",),
    recognizes=_is_copick,
    writes_folders=True,
)
LARGEST_COORDINATE_ANGSTROM = 1e9
USER = "tomosift"
SESSION = "0"
UNLABELED_OBJECT = "particle"


def _list_picks_files(
    project: Path, users: Collection[str] | None, sessions: Collection[str] | None, objects: Collection[str] | None
) -> list[Path]:
    """Return the picks files of these users, sessions and objects, overlay before static, sorted by run and name."""
    paths: dict[tuple[str, str], Path] = {}
    for root in root_folders(project):
        for path in list_files(root, f"{RUNS_FOLDER}/*/Picks/*.json"):
            parts = path.stem.split("_")
            is_requested = len(parts) == 3 and all(
                names is None or part in names for part, names in zip(parts, (users, sessions, objects), strict=True)
            )
            if is_requested:
                paths.setdefault((path.parents[1].name, path.name), path)
    return [paths[key] for key in sorted(paths)]


def _parse_location(path: Path, k: int, location: Any) -> list[float]:
    """Return x, y and z of point k (from 0)."""
    try:
        values = [location[axis] for axis in "xyz"]
        numbers = [float(value) for value in values]
        is_number = not any(isinstance(value, bool) for value in values)
        if not is_number or not all(abs(x) < LARGEST_COORDINATE_ANGSTROM for x in numbers):
            raise ValueError(str(values))
        return numbers
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise FormatError(path, f"location of point {k + 1}", json.dumps(location)[:40], "x, y and z") from error


def _parse_transformations(path: Path, points: list[dict[str, Any]]) -> NDArray[np.float64]:
    """Return the 4 x 4 matrix of each point; the identity where it has none."""
    matrices = np.tile(np.eye(4), (len(points), 1, 1))
    for k, point in enumerate(points):
        if (rows := point.get("transformation_", point.get("transformation"))) is not None:
            try:
                matrices[k] = np.asarray(rows, dtype=np.float64).reshape(4, 4)
            except (TypeError, ValueError) as error:
                raise FormatError(
                    path, f"transformation_ of point {k + 1}", "another shape", "4 x 4 numbers"
                ) from error
            turn = matrices[k, :3, :3]
            if not np.isfinite(matrices[k]).all() or np.abs(turn @ turn.T - np.eye(3)).max() > 1e-3:
                raise FormatError(path, f"transformation_ of point {k + 1}", "no rotation", "a rotation and a shift")
    return matrices


def _read_picks(path: Path) -> Particles:
    """Read one picks file."""
    content = read_json(path)
    points = content.get("points")
    if "pickable_object_name" not in content or not isinstance(points, list | None):
        raise FormatError(path, "picks", "without pickable_object_name or points", "a copick picks file")
    if content.get("unit", "angstrom") != "angstrom":
        raise FormatError(path, "unit", repr(content["unit"]), "'angstrom'")
    points = points or []
    if not all(isinstance(point, dict) for point in points):
        raise FormatError(path, "points", "a list of other values", "a list of JSON objects")
    xyz = np.array([_parse_location(path, k, point.get("location")) for k, point in enumerate(points)]).reshape(-1, 3)
    matrices = _parse_transformations(path, points)
    is_oriented = not np.array_equal(matrices[:, :3, :3], np.tile(np.eye(3), (len(points), 1, 1)))
    rotation = swap_xyz_zyx(matrices[:, :3, :3]) if is_oriented else np.full((len(points), 3, 3), np.nan)
    folder = path.resolve().parents[1].name if path.parent.name == "Picks" else path.stem
    run = str(content.get("run_name") or folder)
    table = pd.DataFrame(xyz, columns=["x", "y", "z"])
    table["instance_id"] = [point.get("instance_id", 0) for point in points]
    for name in ("user_id", "session_id", "pickable_object_name"):
        table[name] = str(content.get(name, ""))
    score = pd.to_numeric(pd.Series([p.get("score") for p in points], dtype=object), errors="coerce")
    return Particles.create(
        np.full(len(points), run, dtype=object),
        (xyz + matrices[:, :3, 3])[:, ::-1],
        rotation=rotation,
        class_name=np.full(len(points), str(content["pickable_object_name"]), dtype=object),
        score=score.to_numpy(dtype=np.float64),
        columns=table,
        source="copick",
    )


def read_project(
    project: Path,
    *,
    users: Collection[str] | None = None,
    sessions: Collection[str] | None = None,
    objects: Collection[str] | None = None,
) -> Particles:
    """Read all picks of a project, or those of these users, sessions and objects.

    Parameters
    ----------
    project
        The project's configuration, or one of its root folders.
    users, sessions, objects
        Names to read; None reads all.

    Raises
    ------
    FormatError
        A root is not local or missing, a picks file is malformed, or no picks are left.
    """
    parts = [_read_picks(path) for path in _list_picks_files(project, users, sessions, objects)]
    if not sum(len(part) for part in parts):
        raise FormatError(project, "picks", "none of those requested", "at least one", "check user, session and object")
    return Particles.create(
        np.concatenate([part.tomogram for part in parts]),
        np.concatenate([part.position_zyx_angstrom for part in parts]),
        rotation=np.concatenate([part.rotation for part in parts]),
        class_name=np.concatenate([part.class_name for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        columns=pd.concat([part.columns for part in parts], ignore_index=True),
        source="copick",
    )


def read_particles(
    path: Path, *, voxel_spacing_angstrom: float | None = None, grids: Mapping[str, Grid] | None = None
) -> Particles:
    """Read all picks of a project (configuration or root folder), or those of one picks file.

    Parameters
    ----------
    path
        Configuration, root folder or picks file.
    voxel_spacing_angstrom, grids
        Not needed: picks are in Angstrom.

    Raises
    ------
    FormatError
        As `read_project`.
    """
    if path.is_dir() or "pickable_objects" in read_json(path):
        return read_project(path)
    return _read_picks(path)


def _picks_content(particles: Particles, run: str, object_name: str, user: str, session: str) -> dict[str, Any]:
    """Return the content of one picks file."""
    matrices = np.tile(np.eye(4), (len(particles), 1, 1))
    known = np.isfinite(particles.rotation).all(axis=(1, 2))
    matrices[known, :3, :3] = swap_xyz_zyx(particles.rotation[known])
    instance = particles.columns.get("instance_id", pd.Series(0, index=range(len(particles))))
    points = [
        {
            "location": dict(zip("xyz", position[::-1].tolist(), strict=True)),
            "transformation_": matrix.tolist(),
            "instance_id": int(number),
            "score": float(score) if np.isfinite(score) else 1.0,
        }
        for position, matrix, number, score in zip(
            particles.position_zyx_angstrom, matrices, instance, particles.score, strict=True
        )
    ]
    names = {"pickable_object_name": object_name, "user_id": user, "session_id": session, "run_name": run}
    return names | {"voxel_spacing": None, "unit": "angstrom", "points": points}


def write_project(project: Path, particles: Particles, *, session: str = SESSION, user: str = USER) -> list[Path]:
    """Write picks below the project's overlay, one file per run and class.

    Particles without a class go to the object ``particle``. Underscores in names become hyphens.

    Parameters
    ----------
    project
        The project's configuration, or the overlay folder itself.
    particles
        Tomogram names are the runs; class names must be objects of the configuration.
    session, user
        Names in copick.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        A class is not among the configuration's pickable objects, or a run is no folder name.
    """
    overlay = root_folders(project)[0]
    user, session = plain_name(user), plain_name(session)
    objects = np.array([plain_name(str(name) or UNLABELED_OBJECT) for name in particles.class_name], dtype=object)
    allowed = {plain_name(name) for name in object_names(project)}
    if allowed and (missing := sorted(set(objects) - allowed)):
        raise ValueError(
            f"{project} has no pickable object {', '.join(missing)}, expected {', '.join(sorted(allowed))}; "
            "add it to pickable_objects"
        )
    paths = []
    for run in dict.fromkeys(particles.tomogram):
        plain_name(str(run))
        for name in dict.fromkeys(objects[particles.tomogram == run]):
            rows = np.flatnonzero((particles.tomogram == run) & (objects == name))
            path = overlay / RUNS_FOLDER / str(run) / "Picks" / f"{user}_{session}_{name}.json"
            write_json(path, _picks_content(particles.select(rows), str(run), name, user, session))
            paths.append(path)
    return paths


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write into the project that ``path`` configures, or one picks file where ``path`` is no configuration.

    Parameters
    ----------
    path
        Configuration, root folder or picks file.
    particles
        What to write.
    voxel_spacing_angstrom, grids
        Not needed: picks are in Angstrom.

    Raises
    ------
    ValueError
        Several runs or objects for a single picks file; otherwise see ``write_project``.
    """
    if path.is_dir() or (path.is_file() and "pickable_objects" in read_json(path)):
        write_project(path, particles)
        return
    runs, objects = sorted(set(map(str, particles.tomogram))), sorted(set(map(str, particles.class_name)))
    if len(runs) != 1 or len(objects) != 1:
        raise ValueError(
            f"a picks file holds one run and one object but {len(runs)} and {len(objects)} were given; "
            "write into a project by naming its configuration"
        )
    name = plain_name(objects[0] or UNLABELED_OBJECT)
    write_json(path, _picks_content(particles, runs[0], name, USER, SESSION))
