"""Picks of copick projects, read by user, session and object, written one file per run and object.

A pick lies at ``location`` plus the translation of its 4 x 4 ``transformation_``, in Angstrom from the centre of voxel
0; the rotation takes the object into the tomogram. An identity in every pick of a file is what programs write that know
no orientation, and is read as that. Picks lie in ``ExperimentRuns/<run>/Picks/<user>_<session>_<object>.json`` below
the project's roots, see `tomosift.io.particles.copick_project`; tomograms in ``ExperimentRuns/<run>/VoxelSpacing<Angstrom>``.

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
    Tomogram,
    files_inside,
    list_tomograms,
    object_names,
    plain_name,
    read_json,
    roots,
)
from tomosift.particles import Grid, Particles

__all__ = [
    "Tomogram",
    "list_tomograms",
    "object_names",
    "read_particles",
    "read_project",
    "roots",
    "write_particles",
    "write_project",
]

USER = "tomosift"
SESSION = "0"
UNLABELED_OBJECT = "particle"


def _picks_files(
    project: Path, users: Collection[str] | None, sessions: Collection[str] | None, objects: Collection[str] | None
) -> list[Path]:
    found: dict[tuple[str, str], Path] = {}
    for root in roots(project):
        for path in files_inside(root, "ExperimentRuns/*/Picks/*.json"):
            parts = path.stem.split("_")
            chosen = len(parts) == 3 and all(
                names is None or part in names for part, names in zip(parts, (users, sessions, objects), strict=True)
            )
            if chosen:
                found.setdefault((path.parents[1].name, path.name), path)
    return [found[key] for key in sorted(found)]


def _vector(path: Path, k: int, location: Any) -> list[float]:
    try:
        return [float(location[axis]) for axis in "xyz"]
    except (TypeError, KeyError, ValueError) as error:
        raise FormatError(path, f"location of point {k + 1}", json.dumps(location)[:40], "x, y and z") from error


def _transformations(path: Path, points: list[dict[str, Any]]) -> NDArray[np.float64]:
    matrices = np.tile(np.eye(4), (len(points), 1, 1))
    for k, point in enumerate(points):
        if (given := point.get("transformation_", point.get("transformation"))) is not None:
            try:
                matrices[k] = np.asarray(given, dtype=np.float64).reshape(4, 4)
            except (TypeError, ValueError) as error:
                raise FormatError(
                    path, f"transformation_ of point {k + 1}", "another shape", "4 x 4 numbers"
                ) from error
    return matrices


def _read_picks(path: Path) -> Particles:
    content = read_json(path)
    points = content.get("points")
    if "pickable_object_name" not in content or not isinstance(points, list | None):
        raise FormatError(path, "picks", "without pickable_object_name or points", "a copick picks file")
    if content.get("unit", "angstrom") != "angstrom":
        raise FormatError(path, "unit", repr(content["unit"]), "'angstrom'")
    points = points or []
    if not all(isinstance(point, dict) for point in points):
        raise FormatError(path, "points", "something else", "a list of JSON objects")
    xyz = np.array([_vector(path, k, point.get("location")) for k, point in enumerate(points)]).reshape(-1, 3)
    matrices = _transformations(path, points)
    known = not np.array_equal(matrices[:, :3, :3], np.tile(np.eye(3), (len(points), 1, 1)))
    rotation = swap_xyz_zyx(matrices[:, :3, :3]) if known else np.full((len(points), 3, 3), np.nan)
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
    """All picks of a project, or those of the named users, sessions and objects.

    Raises
    ------
    FormatError
        A root is not local or missing, a picks file is malformed, or no picks are left.
    """
    parts = [_read_picks(path) for path in _picks_files(project, users, sessions, objects)]
    if not sum(len(part) for part in parts):
        raise FormatError(project, "picks", "none of those asked for", "at least one", "check user, session and object")
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
    """All picks of a project (configuration or root folder), or those of one picks file; units are always Angstrom."""
    if path.is_dir() or "pickable_objects" in read_json(path):
        return read_project(path)
    return _read_picks(path)


def _picks(particles: Particles, run: str, object_name: str, user: str, session: str) -> dict[str, Any]:
    """The content of one picks file."""
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
    """Write picks below the project's overlay, one file per run and class; the files written.

    Particles without a class go to the object ``particle``. Underscores in names become hyphens.

    Raises
    ------
    ValueError
        A class is not among the configuration's pickable objects, or a run is no folder name.
    """
    overlay = roots(project)[0]
    user, session = plain_name(user), plain_name(session)
    objects = np.array([plain_name(str(name) or UNLABELED_OBJECT) for name in particles.class_name], dtype=object)
    allowed = {plain_name(name) for name in object_names(project)}
    if allowed and (missing := sorted(set(objects) - allowed)):
        raise ValueError(
            f"{project} has no pickable object {', '.join(missing)}, expected {', '.join(sorted(allowed))}; "
            "add it to pickable_objects"
        )
    written = []
    for run in dict.fromkeys(particles.tomogram):
        plain_name(str(run))
        for name in dict.fromkeys(objects[particles.tomogram == run]):
            rows = np.flatnonzero((particles.tomogram == run) & (objects == name))
            path = overlay / "ExperimentRuns" / str(run) / "Picks" / f"{user}_{session}_{name}.json"
            write_json(path, _picks(particles.select(rows), str(run), name, user, session))
            written.append(path)
    return written


def write_particles(
    path: Path,
    particles: Particles,
    *,
    voxel_spacing_angstrom: float | None = None,
    grids: Mapping[str, Grid] | None = None,
) -> None:
    """Write into the project that ``path`` configures, or one picks file where ``path`` is no configuration.

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
    write_json(path, _picks(particles, runs[0], name, USER, SESSION))
