"""The errors of the stages of one request, and the memory that they keep."""

import traceback


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors in a group of groups, in order."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def let_go_of_frames(*errors: BaseException) -> None:
    """Lets go of what the calls that failed had in hand: buffers, which are counted.

    A task's error refers to its frames, and they to the task: without this, all of it stays
    until Python looks for cycles. What was cancelled meanwhile is out of reach and does.
    """
    for error in errors:
        context: BaseException | None = error
        while context is not None:
            traceback.clear_frames(context.__traceback__)
            context = context.__context__
