"""Distributed training: process groups, ranks, and work of the first process alone.

Every process runs the same program on the same data and holds a shard of each batch. Only the first process (rank 0)
writes files, into a folder that all processes share.
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

_TIMEOUT = timedelta(days=1)  # processes wait this long while the first one simulates or writes


def detect_launched_processes() -> tuple[int, int] | None:
    """Return processes per node and number of nodes, if torchrun or srun started this process; None otherwise.

    Raises
    ------
    ValueError
        When nodes have different numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        per_node, total = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        nodes = total // per_node
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        total = int(os.environ["SLURM_STEP_NUM_TASKS"])
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", 1)))
        per_node = total // nodes
    else:
        return None
    if per_node * nodes != total:
        raise ValueError(f"{total} processes were started on {nodes} nodes, expected the same number on each node")
    return per_node, nodes


def join_processes(devices: int, nodes: int, precision: Any = "32-true") -> "Fabric":
    """Return a Fabric that is connected to all processes of the training.

    Without torchrun or srun, the other processes of this machine are started here. Each runs the command line of this
    process from its beginning, so call this before anything is written. It may be called again.

    Parameters
    ----------
    devices
        Processes per node; each takes one GPU where there are GPUs.
    nodes
        Number of machines.
    precision
        Precision of Lightning Fabric.

    Raises
    ------
    ValueError
        When ``nodes`` is above 1 and no launcher has started processes on the other nodes.
    """
    from lightning_fabric import Fabric

    if devices * nodes == 1:
        return Fabric(accelerator="auto", devices=1, precision=precision)
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    environment: Any
    if detect_launched_processes() is None:
        if nodes > 1:
            raise ValueError(f"nodes is {nodes}, but the other nodes run no processes; use srun or torchrun")
        environment = LightningEnvironment()
    else:
        is_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        environment = TorchElasticEnvironment() if is_torchrun else SLURMEnvironment(auto_requeue=False)
    strategy = DDPStrategy(cluster_environment=environment, timeout=_TIMEOUT)
    fabric = Fabric(accelerator="auto", devices=devices, num_nodes=nodes, precision=precision, strategy=strategy)
    is_connected = rank_and_world_size()[1] > 1
    fabric.launch()
    if not is_connected:
        atexit.register(_destroy_process_group)
    return fabric


def _destroy_process_group() -> None:
    # Threads that are still connected when the interpreter ends would abort it.
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes: (0, 1) for a single one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def is_first_process() -> bool:
    """Return whether this process has rank 0 and so writes the files."""
    return rank_and_world_size()[0] == 0


def wait_for_all_processes() -> None:
    """Block until every process has called this."""
    if rank_and_world_size()[1] > 1:
        distributed.barrier()


def run_on_first(action: Callable[[], T]) -> T:
    """Call ``action`` in the first process alone, while the others wait; return its result in every process.

    Raises
    ------
    ValueError
        In the other processes, with the same message, when ``action`` raises in the first.

    Examples
    --------
    >>> from tomosift.train.processes import run_on_first
    >>> run_on_first(lambda: 3)
    3
    """
    if rank_and_world_size()[1] == 1:
        return action()
    outcome: list[Any] = [None, None]
    failure: Exception | None = None
    if is_first_process():
        try:
            outcome[0] = action()
        except Exception as error:
            failure, outcome[1] = error, str(error)
    distributed.broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    if outcome[1] is not None:
        raise ValueError(outcome[1])
    return outcome[0]  # type: ignore[no-any-return]
