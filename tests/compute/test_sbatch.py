"""Job scripts are valid bash, and no value can add a directive or a command."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomosift.compute.directives import check_directive
from tomosift.compute.sbatch import JobScript, format_job_script, write_job_script

TRAINING = ("train", "contrastive", "set", "--out", "run")


def run_script(script: str, folder: Path) -> list[str]:
    """Run a script with a stand-in for tomosift, and return the words that it receives."""
    stand_in = folder / "tomosift"
    stand_in.write_text('#!/bin/bash\nprintf "%s\\0" "$@"\n')
    stand_in.chmod(0o755)
    (folder / "srun").write_text('#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\nexec "$@"\n')
    (folder / "srun").chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_CPUS_PER_TASK": "8"}
    process = subprocess.run(
        ["bash"], input=script.encode(), cwd=folder, env=environment, capture_output=True, check=True
    )
    return process.stdout.decode().split("\0")[:-1]


def test_training_over_nodes_is_started_by_srun_with_a_process_for_each_gpu(tmp_path: Path) -> None:
    job = JobScript(nodes=2, gpus=4, time="1-00", memory="64G", partition="gpu", account="lab", setup=("true",))
    write_job_script(tmp_path / "job.sh", job, TRAINING)
    text = (tmp_path / "job.sh").read_text()
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    for option in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "cpus-per-task=8", "mem=64G", "time=1-00"):
        assert f"#SBATCH --{option}" in lines
    assert lines[-1] == (
        "srun --kill-on-bad-exit=1 --cpus-per-task=$SLURM_CPUS_PER_TASK tomosift train contrastive set --out run"
    )
    assert "true" in lines
    subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=True)
    assert run_script(text, tmp_path) == list(TRAINING)


def test_other_commands_run_once_and_submit_their_own_workers() -> None:
    text = format_job_script(JobScript(cores=2), ("extract", "picks.star", "--slurm", "--workers", "50"))
    assert text.splitlines()[-1] == "tomosift extract picks.star --slurm --workers 50"
    assert "gpus" not in text
    with pytest.raises(ValueError, match="nodes and processes make 4 processes, but tomosift extract is no training"):
        format_job_script(JobScript(nodes=4), ("extract", "picks.star"))


@pytest.mark.parametrize(
    "word",
    ["$(touch owned)", "`touch owned`", "a; touch owned", "a\ntouch owned", "'", '"', "$HOME", "*", "", "&", "ä"],
)
def test_words_reach_the_command_unchanged(word: str, tmp_path: Path) -> None:
    text = format_job_script(JobScript(processes=2), (*TRAINING, word))
    assert run_script(text, tmp_path) == [*TRAINING, word]
    assert not (tmp_path / "owned").exists()


@given(st.text())
def test_an_accepted_directive_is_one_plain_word(value: str) -> None:
    try:
        check_directive("partition", value)
    except ValueError:
        return
    assert value
    assert value.isascii()
    assert not set(value) & set(" \t\r\n\v\f\0'\"`$\\;&|<>(){}[]*?!#~^")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "a b"}, "name is 'a b', expected letters"),
        ({"name": "a\n#SBATCH --account=other"}, "name is"),
        ({"partition": "gpu\nrm -rf ~"}, "partition is"),
        ({"account": "$(id)"}, "account is"),
        ({"memory": "64 G"}, "memory is"),
        ({"time": "soon"}, "time is 'soon', expected a time limit such as 12:00:00"),
        ({"time": "12:00:00\n"}, "time is"),
        ({"setup": ("module load a\nrm -rf ~",)}, "setup is"),
        ({"nodes": 0}, "nodes is 0, expected 1 or more"),
        ({"gpus": -1}, "gpus is -1, expected 0 or more"),
        ({"gpus": 2, "processes": 2}, "processes is 2, expected 1 with GPUs"),
    ],
)
def test_values_that_do_not_fit_into_a_script_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        format_job_script(replace(JobScript(), **changes), TRAINING)  # type: ignore[arg-type]


def test_a_script_needs_a_command() -> None:
    with pytest.raises(ValueError, match="there is no command"):
        format_job_script(JobScript(), ())
    with pytest.raises(ValueError, match="null character"):
        format_job_script(JobScript(), ("train", "a\0b"))
