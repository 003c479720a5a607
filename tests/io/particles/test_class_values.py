"""Which values of a column are classes."""

import numpy as np
import pytest

from tomosift.io.particles import read_particles
from tomosift.io.particles.class_values import clean_class_names, name_numbered_classes, number_classes


@pytest.mark.parametrize("value", ["", "  ", "<NA>", "nan", "NaN", "None", "unknown", "Unknown", None, float("nan")])
def test_values_that_are_no_class(value: object) -> None:
    names, _ = clean_class_names([value, "ribosome"])
    assert names.tolist() == ["", "ribosome"]


def test_names_are_stripped_and_case_is_warned_of() -> None:
    names, notes = clean_class_names(np.array(["a", "a ", " a", "A"], dtype=object))
    assert names.tolist() == ["a", "a", "a", "A"]
    assert len(notes) == 1
    assert "'A' and 'a'" in notes[0]


def test_values_taken_for_no_class_are_counted() -> None:
    assert "2 particles of class 'nan'" in clean_class_names(["nan", "nan", "b", ""])[1][0]


def test_numbers_become_names_and_numbers_again() -> None:
    names = name_numbered_classes("rlnClassNumber", np.array([0, 7, 3, -1]))
    assert names.tolist() == ["", "7", "3", ""]
    assert number_classes(["class 3", "class 7"]) == {"class 3": 3, "class 7": 7}
    assert number_classes(["3", "07"]) == {"3": 3, "07": 7}
    assert number_classes(["3", "class 3"]) == {"3": 1, "class 3": 2}
    assert number_classes(["0", "1"]) == {"0": 1, "1": 2}
    assert name_numbered_classes("label", ["0", 1.5, "x"]).tolist() == ["0", "1.5", "x"]


def test_every_table_is_cleaned(tmp_path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("tomogram,x_angstrom,y_angstrom,z_angstrom,class\nTS_01,1,2,3,ribosome \nTS_01,4,5,6,nan\n")
    particles = read_particles(path)
    assert particles.class_name.tolist() == ["ribosome", ""]
    assert "'nan'" in particles.notes[0]
