"""Job scripts from the command line: what comes after -- is the job's command, whatever it holds."""

import subprocess
from pathlib import Path

import pytest

from tomosift.cli.main import main


def test_everything_after_the_dashes_is_the_command_of_the_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "contrastive", "my set", "--out", "run; rm -rf ~", "--training.steps", "5"]
    main(
        [
            "sbatch",
            "--nodes",
            "2",
            "--gpus",
            "4",
            "--time",
            "12:00:00",
            "--out",
            str(tmp_path / "job.sh"),
            "--",
            *command,
        ]
    )
    text = (tmp_path / "job.sh").read_text()
    assert text.endswith("tomosift train contrastive 'my set' --out 'run; rm -rf ~' --training.steps 5\n")
    assert "#SBATCH --nodes=2" in text
    subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=True)
    assert f"sbatch {tmp_path / 'job.sh'}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--name", "a\nb", "--", "train"), "name is"),
        (("--", "rm", "-rf"), "there is no command 'rm'"),
        (("--nodes", "2", "--", "extract", "picks.star"), "is no training"),
        ((), "there is no command for the job"),
    ],
)
def test_wrong_requests_are_refused_in_one_sentence(
    words: tuple[str, ...], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["sbatch", "--out", str(tmp_path / "job.sh"), *words])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "job.sh").exists()
