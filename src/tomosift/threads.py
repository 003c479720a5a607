"""Pieces of a batch on threads."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def shares(count: int, at_most: int) -> list[slice]:
    """Parts of so many rows that differ by one at most, none longer than that, and as many for each thread."""
    threads = torch.get_num_threads()
    parts = max(1, threads * -(-count // (threads * at_most)))
    edges = [count * part // parts for part in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(edges) if start < end]


def side_by_side(work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> list[Result]:
    """``work`` on each of the pieces, on as many threads as torch may use, each piece by one thread alone.

    Pieces side by side use processors better than many small operations that are each spread over all of them. Where
    several fail, one of their errors comes out.
    """
    before = torch.get_num_threads()
    threads = min(before, len(pieces))
    if threads <= 1:
        return [work(piece) for piece in pieces]
    # Both belong to a thread, and new ones begin with neither.
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    waiting, results = deque(range(len(pieces))), dict[int, Result]()

    def work_off() -> None:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            while True:
                try:
                    place = waiting.popleft()
                except IndexError:
                    return
                results[place] = work(pieces[place])

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads - 1) as pool:
            others = [pool.submit(work_off) for _ in range(threads - 1)]
            try:
                work_off()
            finally:
                waiting.clear()  # after an error nothing else is begun
            for other in others:
                other.result()
    finally:
        torch.set_num_threads(before)
    return [results[place] for place in range(len(pieces))]
