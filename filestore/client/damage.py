"""Which files of a group cannot be read whole: their bytes have to be sent again to heal them."""

from filestore.client.space import Space
from filestore.errors import Forbidden, NotFound


class Damage:
    """Asks once for each group, however many files are brought there."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._paths: dict[str, set[str]] = {}

    def __repr__(self) -> str:
        return f"<Damage in {len(self._paths)} groups>"

    async def has(self, group: str, path: str) -> bool:
        """Whether the current version of the file was damaged when the group was first asked."""
        if group not in self._paths:
            self._paths[group] = await self._ask(group)
        return path.strip("/") in self._paths[group]

    async def _ask(self, group: str) -> set[str]:
        try:
            items = [item async for item in self._space.damaged(group)]
        except (NotFound, Forbidden):  # a server before this, or one who may only write
            return set()
        return {str(item["path"]).strip("/") for item in items if item.get("current")}
