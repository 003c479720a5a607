"""List the built-in structures, or add one of your own."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli.terminal import print_message, print_table
from tomosift.simulation.structures.atlas import add_to_atlas, atlas_folder, atlas_names, load_atlas_entry


def list_entries(folder: Path | None = None) -> None:
    """List every structure that simulations know by name.

    Args:
        folder: Folder of your own entries; by default those that come with the program.
    """
    names = atlas_names(folder)
    if not names:
        raise ValueError(f"{folder or atlas_folder()} holds no atlas entry (.json); check the folder")
    rows = []
    for name in names:
        entry = load_atlas_entry(name, folder)
        size = f"{entry.mass_kda:.0f} kDa"
        resolution = f"{entry.fsc_half_angstrom:.1f} A"
        rows.append([name, entry.title, entry.entry_id, size, f"{2 * entry.radius_angstrom:.0f} A", resolution])
    header = ["name", "title", "entry", "mass", "diameter", "FSC 0.5"]
    print_table(f"{len(rows)} structures", header, rows)


def add(
    structure: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="STRUCTURE")],
    /,
    name: str,
    beads: int | None = None,
    assembly: str | None = None,
    title: str | None = None,
    license: str = "",
    out: Path = Path(),
) -> None:
    """Compute an entry from an atomic structure and write it as NAME.json.

    Args:
        structure: PDB or mmCIF file, also gzipped.
        name: Name of the entry: lower-case letters, digits, - and _.
        beads: Number of Gaussians; by default one for each 1.7 kDa, between 120 and 400.
        assembly: Biological assembly to build, or "asu" for the asymmetric unit of the file.
        title: Title of the complex; by default that of the file.
        license: License of the structure; that of the Protein Data Bank is CC0-1.0.
        out: Folder to write to.
    """
    path = add_to_atlas(structure, name, beads=beads, assembly=assembly, title=title, license=license, out_folder=out)
    entry = load_atlas_entry(name, out)
    size = f"{entry.mass_kda:.0f} kDa as {len(entry.beads)} beads"
    print_message(f"{path}: {size}, resolution {entry.fsc_half_angstrom:.1f} A (FSC 0.5 with the atoms)")
    if out.resolve() == atlas_folder().resolve():
        print_message(f"simulate it with: tomosift simulate tomograms --structures {name}")
        return
    print_message(
        f"list it with: tomosift atlas list --folder {out}; simulations take {structure} itself, or the entry by name "
        f"once it is in {atlas_folder()}"
    )


command = {"list": list_entries, "add": add}
