"""Particle tables as parquet files that restore them exactly.

The columns of the file are ``particle_id``, ``tomogram``, ``class_name``, ``score``, ``z_angstrom``, ``y_angstrom``,
``x_angstrom``, ``rotation_zz`` ... ``rotation_xx`` (row, then column of the matrix on zyx vectors), whatever the caller
adds, and every column of the particles' source table as ``column.<name>``. The other blocks of that table are
stored in the metadata of the file.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tomosift.errors import FormatError
from tomosift.files import written_then_renamed
from tomosift.io.file_content import named_errors
from tomosift.particles import Particles

PREFIX = "column."
STRINGS = ("particle_id", "tomogram", "class_name")
POSITIONS = ("z_angstrom", "y_angstrom", "x_angstrom")
ROTATIONS = tuple(f"rotation_{row}{column}" for row in "zyx" for column in "zyx")
METADATA_KEY = b"tomosift"


def _to_text(value: object) -> object:
    """Convert a table cell beyond JSON's own types, for ``default`` of `json.dumps`."""
    if isinstance(value, np.generic):
        scalar = value.item()
        return _to_text(scalar) if isinstance(scalar, complex) else scalar
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    raise ValueError(f"a table cell holds {value!r} of type {type(value).__name__}; expected text, a number or nothing")


def _from_text(value: dict[str, Any]) -> object:
    return complex(*value["complex"]) if value.keys() == {"complex"} else value


def _frame_to_arrow(frame: pd.DataFrame) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Convert a frame to unique text names and cells that Arrow holds; return it with the notes to undo both.

    Arrow's columns have one type each; a column of mixed cells is stored as the JSON text of each cell.
    """
    stored: dict[str, Any] = {}
    notes: list[dict[str, Any]] = []
    for k, name in enumerate(frame.columns):
        series = frame.iloc[:, k]
        key = f"{PREFIX}{name}" if f"{PREFIX}{name}" not in stored else f"{PREFIX}{name}#{k}"
        mixed = series.dtype == object and pd.api.types.infer_dtype(series, skipna=False) != "string"
        as_json = mixed or series.dtype.kind == "c"
        plain_name = name.item() if isinstance(name, np.generic) else name
        notes.append({"name": plain_name, "stored": key, "dtype": str(series.dtype), "json": as_json})
        stored[key] = (
            [json.dumps(cell, default=_to_text) for cell in series] if as_json else series.reset_index(drop=True)
        )
    table = pa.Table.from_pandas(pd.DataFrame(stored, index=range(len(frame))), preserve_index=False)
    return table, notes


def _frame_from_arrow(table: pa.Table, notes: list[dict[str, Any]], n: int) -> pd.DataFrame:
    frame: pd.DataFrame = table.select([note["stored"] for note in notes]).to_pandas()
    series = []
    for note in notes:
        column = frame[note["stored"]]
        if note["json"]:
            cells = np.empty(n, dtype=object)
            cells[:] = [json.loads(cell, object_hook=_from_text) for cell in column]
            column = pd.Series(cells, dtype=note["dtype"])
        elif str(column.dtype) != note["dtype"]:
            column = column.astype(note["dtype"])
        series.append(column)
    if not series:
        return pd.DataFrame(index=range(n))
    result: pd.DataFrame = pd.concat(series, axis=1)
    result.columns = pd.Index([note["name"] for note in notes])
    return result


def _pack(frame: pd.DataFrame) -> dict[str, Any]:
    table, notes = _frame_to_arrow(frame)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return {
        "rows": len(frame),
        "columns": notes,
        "parquet": base64.b64encode(sink.getvalue().to_pybytes()).decode("ascii"),
    }


def _unpack(packed: dict[str, Any]) -> pd.DataFrame:
    table = pq.read_table(pa.BufferReader(base64.b64decode(packed["parquet"])))
    return _frame_from_arrow(table, packed["columns"], packed["rows"])


def write_particle_table(path: Path, particles: Particles, added: Mapping[str, NDArray[Any]]) -> None:
    """Write particles and further numeric columns; the file is complete or absent.

    Parameters
    ----------
    path
        The file.
    particles
        The n particles.
    added
        Name -> (n,) values.

    Raises
    ------
    ValueError
        A cell of ``particles.columns`` holds neither text nor a number, or an added column has the name of a field.
    """
    table, notes = _frame_to_arrow(particles.columns)
    fields: dict[str, Any] = {}
    for name in STRINGS:
        text = pa.array(getattr(particles, name), type=pa.string())
        fields[name] = text if name == "particle_id" else text.dictionary_encode()
    fields["score"] = pa.array(particles.score)
    fields |= {name: pa.array(particles.position_zyx_angstrom[:, k]) for k, name in enumerate(POSITIONS)}
    rotation = particles.rotation.reshape(-1, 9)
    fields |= {name: pa.array(rotation[:, k]) for k, name in enumerate(ROTATIONS)}
    if taken := sorted(set(fields) & set(added)):
        raise ValueError(f"added columns {taken} have the names of particle fields; rename them")
    fields |= {name: pa.array(values) for name, values in added.items()}
    metadata = {
        "columns": notes,
        "added": list(added),
        "tables": {name: _pack(frame) for name, frame in particles.tables.items()},
        "source": particles.source,
    }
    merged = pa.table(fields | {name: table[name] for name in table.column_names})
    merged = merged.replace_schema_metadata(
        {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(metadata).encode()}
    )
    with written_then_renamed(path) as temporary:
        pq.write_table(merged, temporary, compression="zstd")


def _strings(column: pa.ChunkedArray) -> NDArray[Any]:
    if not pa.types.is_dictionary(column.type):
        return np.asarray(column.to_numpy(), dtype=object)
    whole = column.unify_dictionaries().combine_chunks()
    whole = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
    # One Python string per name, not per row: a million rows open in about a second.
    names = np.asarray(whole.dictionary.to_numpy(zero_copy_only=False), dtype=object)
    return np.asarray(names[whole.indices.to_numpy()], dtype=object)


def read_particle_table(path: Path) -> tuple[Particles, dict[str, NDArray[Any]]]:
    """Read a file of `write_particle_table`: the particles, and the added columns by name.

    Raises
    ------
    FormatError
        The file is not parquet, or was not written by `write_particle_table`.
    """
    with named_errors(path, "a parquet table of particles"):
        return _read_table(path)


def _read_table(path: Path) -> tuple[Particles, dict[str, NDArray[Any]]]:
    try:
        table = pq.read_table(path)
        notes = json.loads((table.schema.metadata or {})[METADATA_KEY])
    except Exception as error:  # Arrow's errors have many types
        reason = "missing" if isinstance(error, FileNotFoundError) else "unreadable"
        advice = "make the set again or copy the file from where the set came from"
        raise FormatError(path, "the particle table", reason, "a parquet table of particles", advice) from error
    n = table.num_rows
    strings = {name: _strings(table[name]) if n else np.zeros(0, dtype=object) for name in STRINGS}
    rotation = np.empty((n, 9))
    for k, name in enumerate(ROTATIONS):
        rotation[:, k] = table[name].to_numpy()
    particles = Particles.create(
        tomogram=strings["tomogram"],
        position_zyx_angstrom=np.stack([table[name].to_numpy() for name in POSITIONS], axis=1),
        rotation=rotation.reshape(n, 3, 3),
        class_name=strings["class_name"],
        score=table["score"].to_numpy(),
        particle_id=strings["particle_id"],
        columns=_frame_from_arrow(table, notes["columns"], n),
        tables={name: _unpack(packed) for name, packed in notes["tables"].items()},
        source=notes["source"],
    )
    added = {name: table[name].to_numpy() for name in notes["added"]}
    del table
    # Arrow keeps what it has freed: 200 MB of a million particles, in programs that run for hours.
    pa.default_memory_pool().release_unused()
    return particles, added


def concatenate_particles(parts: list[Particles]) -> Particles:
    """Concatenate particle tables; columns that a part lacks are filled with missing values.

    Raises
    ------
    ValueError
        Two parts bring different tables of one name: no single file could hold both.
    """
    tables: dict[str, pd.DataFrame] = {}
    for part in parts:
        for name, frame in part.tables.items():
            if name in tables and tables[name] is not frame and not tables[name].equals(frame):
                raise ValueError(f"two inputs bring different tables named {name!r}; make one set from each input")
            tables.setdefault(name, frame)
    sources = {part.source for part in parts}
    return Particles.create(
        tomogram=np.concatenate([part.tomogram for part in parts]),
        position_zyx_angstrom=np.concatenate([part.position_zyx_angstrom for part in parts]),
        rotation=np.concatenate([part.rotation for part in parts]),
        class_name=np.concatenate([part.class_name for part in parts]),
        score=np.concatenate([part.score for part in parts]),
        particle_id=np.concatenate([part.particle_id for part in parts]),
        columns=pd.concat([part.columns for part in parts], ignore_index=True),
        tables=tables,
        source=sources.pop() if len(sources) == 1 else "",
    )
