"""Scans that come to harm, in a module that workers can import."""

import os
import signal
from pathlib import Path

from tomosift.picking.tomogram_task import PickingTask, run_task


def scan_killed_once(task: PickingTask) -> Path:
    """The first of all tries is killed when it has looked at every place and written nothing."""
    marker = task.out.parent / f"{task.tomogram.name}.killed"

    def kill(done: int, blocks: int) -> None:
        if task.tomogram.name == "a" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return run_task(task, kill)
