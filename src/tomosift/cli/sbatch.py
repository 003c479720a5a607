"""Write a SLURM job script for another command, such as a training on several nodes."""

from pathlib import Path
from typing import Annotated

import tyro

from tomosift.cli import COMMANDS
from tomosift.cli.terminal import print_message
from tomosift.compute.sbatch import JobScript, write_job_script


def command(
    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="-- COMMAND")],
    /,
    out: Path,
    job: Annotated[JobScript, tyro.conf.arg(name="")] = JobScript(),
) -> None:
    """Write a SLURM job script: tomosift sbatch --nodes 2 --gpus 4 --out job.sh -- train contrastive SET --out RUN.

    Nothing is submitted: read the script, then submit it with sbatch.

    Args:
        words: After --, the command that the job runs, without the word tomosift.
        out: File of the script.
        job: Resources of the job.
    """
    if words and words[0] not in COMMANDS:
        raise ValueError(f"there is no command {words[0]!r} for the job; commands are {', '.join(COMMANDS)}")
    write_job_script(out, job, words)
    print_message(f"{out}: written; submit it with: sbatch {out}")
