"""Picking tasks whose process is killed, in a module that workers can import."""

import os
import signal
from pathlib import Path

from tomosift.picking.tomogram_task import PickingTask, run_task


def kill_first_attempt(task: PickingTask) -> Path:
    """Kill the process in the first attempt, after the last block and before anything is written."""
    marker = task.out.parent / f"{task.tomogram.name}.killed"

    def kill(done: int, total: int, note: str = "") -> None:
        if task.tomogram.name == "a" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return run_task(task, kill)
