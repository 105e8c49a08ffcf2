"""Work for other processes, in a module that they import in no time."""

from functools import partial


def double(offset: int, item: int) -> int:
    """Twice the item and an offset."""
    return 2 * item + offset


def open_double(offset: int) -> partial:
    """A worker that doubles."""
    return partial(double, offset)


def fail(item: int) -> int:
    """A worker that cannot."""
    raise ValueError(item)


def open_fail() -> object:
    """A worker that dies of its first item."""
    return fail
