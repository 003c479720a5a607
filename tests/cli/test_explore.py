"""The command explore: what it writes, how clusters become labels, and what is refused."""

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from tomosift.cli.main import main
from tomosift.data.labels import label_subtomograms
from tomosift.data.subtomogram_set import open_subtomograms
from tomosift.evaluation import known_structures

pytestmark = pytest.mark.usefixtures("fast_recentering", "few_known_particles")


@pytest.fixture(scope="module")
def few_known_particles() -> Iterator[None]:
    """Six simulated particles of each structure that clusters are compared with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_structures, "PER_CLASS", 6)
        yield


@pytest.fixture(scope="module")
def explored(
    fast_recentering: None, few_known_particles: None, chain: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("explored") / "out"
    words = ["--clusters", "3", "--structures", "ribosome-70s", "groel", "apoferritin"]
    main(["explore", str(chain.subtomograms), "--out", str(out), *words])
    return out


def test_every_particle_has_a_cluster_and_the_report_shows_them(explored: Path, world: Any) -> None:
    picks = starfile.read(world.paths.particles, always_dict=True)["particles"]
    table = starfile.read(explored / "clusters.star", always_dict=True)["particles"]
    assert len(table) == len(picks)
    assert set(picks.columns) <= set(table.columns)
    assert set(table["tomosiftClass"]) <= {"cluster-1", "cluster-2", "cluster-3"}
    report = (explored / "report.html").read_text()
    for part in ('id="clusters"', "Stability", "Looks like", "3 clusters", 'id="averages"'):
        assert part in report


def test_named_clusters_become_labels_without_clustering_again(explored: Path, chain: Any) -> None:
    before = (explored / "clusters.npz").read_bytes()
    words = ["--clusters", "3", "--names", "1=big-one", "2=small", "3=small", "--min-confidence", "0"]
    main(["explore", str(chain.subtomograms), "--out", str(explored), *words])
    table = starfile.read(explored / "clusters.star", always_dict=True)["particles"]
    subtomograms = open_subtomograms(chain.subtomograms)
    labeled = label_subtomograms(subtomograms, explored / "labels.star", tolerance_angstrom=1.0)
    assert labeled.class_names == ("big-one", "small")
    assert np.bincount(labeled.label)[0] == (table["rlnClassNumber"] == 1).sum()
    assert len(labeled.labeled_rows) == len(table)
    assert (explored / "clusters.npz").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--names", "ribosome"], "names no cluster"),
        (["--names", "1=a", "1=b"], "named twice"),
        (["--names", "1=big one"], "'big one' cannot name a class: no blanks"),
        (["--names", "1=it's"], "no quote signs"),
        (["--names", "1=unknown"], "and not unknown"),
        (["--structures", "groelle"], "groelle is no structure of the atlas and no file"),
        (["--names", "9=a"], "there is no cluster 9; clusters are 1 to 3"),
        (["--min-confidence", "2"], "min_confidence is 2"),
        (["--seed", "5"], "seed"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(
    words: list[str], sentence: str, explored: Path, chain: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["explore", str(chain.subtomograms), "--out", str(explored), "--clusters", "3", *words])
    assert stopped.value.code == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert "Traceback" not in printed


def test_model_without_plda_gives_clusters_without_suggestions(
    chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["explore", str(chain.subtomograms), "--out", str(tmp_path / "o"), "--model", str(chain.classifier)])
    assert "has no PLDA, so clusters are not compared with known structures" in capsys.readouterr().err
    assert np.load(tmp_path / "o" / "clusters.npz")["probability"].shape[0] > 0


def test_other_structures_can_be_compared_and_damaged_clusters_are_refused(
    explored: Path, chain: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["explore", str(chain.subtomograms), "--out", str(explored), "--clusters", "3"]
    main([*words, "--structures", "groel", "apoferritin"])
    assert "ribosome-70s" not in capsys.readouterr().out
    kept = explored / "clusters.npz"
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    with pytest.raises(SystemExit) as stopped:
        main(words)
    kept.write_bytes(whole)
    assert stopped.value.code == 2
    assert "clusters.npz: content is unreadable" in capsys.readouterr().err


def test_single_structure_can_be_compared(explored: Path, chain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["explore", str(chain.subtomograms), "--out", str(explored), "--clusters", "3", "--structures", "ribosome-70s"]
    )
    assert "groel" not in capsys.readouterr().out
    assert (explored / "report.html").read_text().count("none of these") > 0


def test_printed_command_works_as_it_is(explored: Path, chain: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(["explore", str(chain.subtomograms), "--out", str(explored), "--clusters", "3", "--no-suggest"])
    line = next(line for line in capsys.readouterr().err.splitlines() if "1=NAME" in line)
    words = shlex.split(line.replace("1=NAME 2=NAME ...", "1=a 2=b"))
    main([*words[1:], "--min-confidence", "0"])
    assert "labels" in capsys.readouterr().out


def test_another_set_of_the_same_size_does_not_get_these_clusters(
    explored: Path, chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(chain.subtomograms, other)
    shard = next(path for path in other.rglob("*.npy") if np.load(path, mmap_mode="r").ndim == 4)
    np.save(shard, -np.load(shard))
    with pytest.raises(SystemExit) as stopped:
        main(["explore", str(other), "--out", str(explored), "--clusters", "3"])
    assert stopped.value.code == 2
    assert "particles is" in capsys.readouterr().err


def test_wrong_number_of_clusters_is_refused_before_the_work(
    chain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["explore", str(chain.subtomograms), "--out", str(tmp_path / "o"), "--clusters", "1"])
    assert "number of clusters is 1" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
