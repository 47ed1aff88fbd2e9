"""Several processes that train one model (DDP, FSDP): what each has to know of the others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


class RankError(RuntimeError):
    """Another process has raised an exception, or does not answer."""


class Ranks:
    """The processes of torch.distributed's default group; one where it is not initialised.

    Every process calls every method at the same place, since each waits for the others.
    """

    def __init__(self, device: torch.device) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        self.n = distributed.get_world_size() if joined else 1
        self.rank = distributed.get_rank() if joined else 0
        self.is_alone = False  # the others do not answer, or wait for what this one will never send
        if self.n > 1:
            self._device = torch.device("cpu") if "gloo" in str(distributed.get_backend()) else device

    def mean(self, values: Sequence[Tensor]) -> list[float]:
        """Of each value, shape (), the mean over the processes."""
        stacked = torch.stack(list(values))
        if self.n == 1:
            return stacked.tolist()
        return [total / self.n for total in self._total(stacked)]

    def total(self, *numbers: float) -> list[float]:
        """Of each number the sum over the processes."""
        return list(numbers) if self.n == 1 else self._total(torch.tensor(numbers))

    def any(self, flag: bool) -> bool:
        return flag if self.n == 1 else self.total(float(flag))[0] > 0

    def least(self, number: int) -> int:
        if self.n == 1:
            return number
        reduced = torch.tensor(number, device=self._device)
        with self._waiting():
            distributed.all_reduce(reduced, distributed.ReduceOp.MIN)
            return int(reduced)

    def of_first(self, thing: T) -> T:
        """The first process's thing, the same in all."""
        if self.n == 1:
            return thing
        things: list[Any] = [thing]
        with self._waiting():
            distributed.broadcast_object_list(things, src=0, device=self._device)
        return things[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Where one process raises, all do, before one of them waits for what another will not send."""
        if self.n == 1:
            yield
            return
        error: Exception | None = None
        try:
            yield
        except Exception as err:
            error = err
        if error is not None and self.is_alone:
            error.add_note(
                "range_test: one process alone raised in a backward pass; the others wait until it ends, or time out"
            )
            raise error
        if self.any(error is not None):
            said: list[str | None] = [None] * self.n
            with self._waiting():
                distributed.all_gather_object(said, None if error is None else f"{type(error).__name__}: {error}")
            if error is not None:
                raise error
            raise RankError("; ".join(f"process {rank} raised {words}" for rank, words in enumerate(said) if words))

    def _total(self, values: Tensor) -> list[float]:
        reduced = values.to(self._device, torch.float64)
        with self._waiting():
            distributed.all_reduce(reduced)
            return reduced.tolist()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Around what the other processes have to answer."""
        try:
            yield
        except RuntimeError as err:  # the connection was closed, or the group's timeout is over
            self.is_alone = True
            raise RankError(
                f"every process must take part in the range test, got no answer from another ("
                f"{str(err).splitlines()[0][:200]}); see what that one has said"
            ) from err
