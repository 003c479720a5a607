"""Pieces on threads are pieces one after the other."""

from collections.abc import Iterator

import pytest
import torch

from tomosift.threads import shares, side_by_side


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_each_piece_has_one_thread(threads: int) -> None:
    found = side_by_side(lambda piece: (piece, torch.get_num_threads()), range(7))
    assert found == [(piece, 1) for piece in range(7)]
    assert torch.get_num_threads() == threads
    assert side_by_side(str, []) == []


@pytest.mark.usefixtures("threads")
def test_what_holds_for_gradients_holds_on_threads() -> None:
    def modes(_: int) -> tuple[bool, bool]:
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    assert side_by_side(modes, range(4)) == [(True, False)] * 4
    with torch.no_grad():
        assert side_by_side(modes, range(4)) == [(False, False)] * 4
    with torch.inference_mode():
        assert side_by_side(modes, range(4)) == [(False, True)] * 4
    weight = torch.ones(2, requires_grad=True)
    torch.cat(side_by_side(lambda factor: factor * weight, range(1, 5))).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [10.0, 10.0]


def test_an_error_comes_out_and_threads_are_as_before(threads: int) -> None:
    def work(piece: int) -> None:
        raise ValueError(f"piece {piece}")

    with pytest.raises(ValueError, match=r"piece \d"):
        side_by_side(work, range(5))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("count", [0, 1, 2, 5, 48, 130, 1000])
def test_shares_are_all_of_it_in_order_evenly_and_as_many_for_each_thread(threads: int, count: int) -> None:
    parts = [range(count)[part] for part in shares(count, 20)]
    assert [row for part in parts for row in part] == list(range(count))
    lengths = {len(part) for part in parts}
    assert max(lengths, default=0) - min(lengths, default=0) <= 1
    assert max(lengths, default=0) <= 20
    assert len(parts) % threads == 0 or len(parts) == count
