"""Alembic, configured in code, so that the wheel carries everything that it needs."""

from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from filestore.errors import CannotStart

_LOCATION: Final = "filestore:meta/migrations"


def upgrade(connection: sa.Connection) -> None:
    """Brings the schema to the newest revision, inside the caller's transaction.

    :raises CannotStart: the database is at a revision that this filestore does not know.
    """
    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise CannotStart(
            reason=f"the database is at revision {current}, which a newer filestore wrote;"
            " start that one, or restore a backup"
        )
    command.upgrade(config, "head")


def alembic_config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", _LOCATION)
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
