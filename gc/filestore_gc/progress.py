"""How long work says how far it is: counts, by name, whenever they have moved on a little."""

from collections.abc import Callable

Progress = Callable[[dict[str, int]], None]
"""Called on the event loop, some times a second at most, with all counts so far. It must not
block; what it raises ends the work."""


def quiet(counts: dict[str, int]) -> None:
    """Tells nobody."""
