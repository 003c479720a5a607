"""Pieces of a batch on threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """``work`` on each of the pieces, on as many threads as torch may use, each piece by one thread alone.

    Pieces side by side use processors better than many small operations that are each spread over all of them.
    """
    before = torch.get_num_threads()
    threads = min(before, len(pieces))
    if threads <= 1:
        return [work(piece) for piece in pieces]
    # Both belong to a thread, and those of the pool begin with neither.
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def alone(piece: Piece) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return work(piece)

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(alone, pieces))
    finally:
        torch.set_num_threads(before)
