"""What the checks of the assignments ask: is it right, and is it quick enough?"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def same(got: Any, want: Tensor, hint: str = "", tol: float = 1e-9) -> None:
    """Compare a tensor entry by entry; the message says what came and what is wanted.

    Parameters
    ----------
    got : object
        What a function returned; right is a tensor of the shape of ``want``.
    want : Tensor (...)
        The right values; integers, booleans and infinities are compared, too.
    hint : str
        Which mistake gives this; stands at the end of every message.
    tol : float
        The largest difference that is overlooked, relative to ``1 + |want|``.

    Raises
    ------
    AssertionError
        If ``got`` is no tensor, has another shape, or has an entry that differs.

    Notes
    -----
    Used by the assignments; see *In a classroom*.

    Examples
    --------
    >>> same(torch.tensor([1, -1]), torch.tensor([1, -1]))
    >>> same(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]), "Is the bias there?")
    Traceback (most recent call last):
    ...
    AssertionError: 1 of 2 entries differ; at [1] came 2.0, wanted is 3.0. Is the bias there?
    """
    assert isinstance(got, Tensor), f"a tensor is wanted, but {got!r:.60} came. {hint}"
    shapes = tuple(got.shape), tuple(want.shape)
    assert shapes[0] == shapes[1], f"shape {shapes[0]} came, wanted is {shapes[1]}. {hint}"
    a, b = got.double(), want.double()
    differ = ~torch.isclose(a, b, rtol=tol, atol=tol)
    if differ.any():
        at = differ.nonzero()[0].tolist()
        came, wanted = a[tuple(at)].item(), b[tuple(at)].item()
        raise AssertionError(
            f"{int(differ.sum())} of {differ.numel()} entries differ; "
            f"at {at} came {came:.7}, wanted is {wanted:.7}. {hint}"
        )


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of ``call()``, which is stopped when it takes more work than ``seconds``.

    Parameters
    ----------
    seconds : float
        The most that the processor may work on it, in all threads together: on a machine that is
        busy with other things, nobody loses points.
    call : callable
        Takes nothing, for example ``lambda: f(x)``.

    Raises
    ------
    AssertionError
        If the time is over.  Python stops at its next step; where there are no such alarms
        (Windows, a thread), only after the call has ended.

    Notes
    -----
    Used by the assignments at sizes for which a loop over everything is too slow.

    Examples
    --------
    >>> within(5, lambda: sum(range(10)))
    45
    """

    def late(*_: Any) -> None:
        raise AssertionError(f"not done after {seconds} s: what is looped over that need not be?")

    alarms = hasattr(signal, "SIGPROF") and threading.current_thread() is threading.main_thread()
    start = time.process_time()
    before = signal.signal(signal.SIGPROF, late) if alarms else None
    try:
        if alarms:  # again and again: what is raised inside a weak reference's callback is lost
            signal.setitimer(signal.ITIMER_PROF, seconds, 0.1)
        result = call()
    finally:
        if alarms:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
    if time.process_time() - start > seconds:
        late()
    return result
