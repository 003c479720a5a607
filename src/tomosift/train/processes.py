"""The processes of a training: who started them, how they meet, and what only the first of them does.

Every process runs the same program on the same data and holds a part of each batch. Files are written by the first one
alone, in a folder that all can see.
"""

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from torch import distributed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")

_PATIENCE = timedelta(days=1)  # for what others wait for while one process simulates or writes


def launched_processes() -> tuple[int, int] | None:
    """Processes of each node, and nodes, if torchrun or srun has started this process and others like it.

    Raises
    ------
    ValueError
        When nodes have different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        each, total = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        nodes = total // each
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        total = int(os.environ["SLURM_STEP_NUM_TASKS"])
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", 1)))
        each = total // nodes
    else:
        return None
    if each * nodes != total:
        raise ValueError(f"{total} processes were started on {nodes} nodes, expected the same number on each")
    return each, nodes


def join_processes(devices: int, nodes: int, precision: Any = "32-true") -> "Fabric":
    """Fabric, in touch with all processes; those of this machine are started where no launcher has done so.

    A started process runs the command line of this one from its beginning, so this is called before anything is
    written. May be called again.

    Raises
    ------
    ValueError
        When several nodes are asked for and no launcher has started processes on them.
    """
    from lightning_fabric import Fabric

    if devices * nodes == 1:
        return Fabric(accelerator="auto", devices=1, precision=precision)
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    environment: Any
    if launched_processes() is None:
        if nodes > 1:
            raise ValueError(f"nodes is {nodes}, but nothing was started on the others; use srun or torchrun")
        environment = LightningEnvironment()
    else:
        is_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        environment = TorchElasticEnvironment() if is_torchrun else SLURMEnvironment(auto_requeue=False)
    strategy = DDPStrategy(cluster_environment=environment, timeout=_PATIENCE)
    fabric = Fabric(accelerator="auto", devices=devices, num_nodes=nodes, precision=precision, strategy=strategy)
    is_met = rank_and_world_size()[1] > 1
    fabric.launch()
    if not is_met:
        atexit.register(_leave)
    return fabric


def _leave() -> None:
    # Threads that are still connected when the interpreter ends would abort it.
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank_and_world_size() -> tuple[int, int]:
    """Number of this process and of all: (0, 1) on its own."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return rank_and_world_size()[0] == 0


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if rank_and_world_size()[1] > 1:
        distributed.barrier()


def run_on_first(action: Callable[[], T]) -> T:
    """What ``action`` returns in the first process, which alone does it while the others wait.

    Raises
    ------
    ValueError
        In the other processes, with the same sentence, when it raises in the first.
    """
    if rank_and_world_size()[1] == 1:
        return action()
    answer: list[Any] = [None, None]
    failure: Exception | None = None
    if is_first():
        try:
            answer[0] = action()
        except Exception as error:
            failure, answer[1] = error, str(error)
    distributed.broadcast_object_list(answer)
    if failure is not None:
        raise failure
    if answer[1] is not None:
        raise ValueError(answer[1])
    return answer[0]  # type: ignore[no-any-return]
