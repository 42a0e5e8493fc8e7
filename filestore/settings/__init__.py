"""What an administrator can set: one model, four layers, and errors that name the culprit.

Defaults < TOML file (``--config``) < environment ``FILESTORE_*`` < flags. Nothing outside this
package reads the environment for the service, and settings never change while it runs.
``config/default.toml`` is generated from the model (``python -m filestore.settings``).
"""

from filestore.settings.load import load
from filestore.settings.model import Settings
from filestore.settings.sections import (
    S3,
    Blocks,
    Database,
    Gc,
    Groups,
    Log,
    Server,
    Transfer,
    Uploads,
)
from filestore.settings.template import default_toml

__all__ = [
    "S3",
    "Blocks",
    "Database",
    "Gc",
    "Groups",
    "Log",
    "Server",
    "Settings",
    "Transfer",
    "Uploads",
    "default_toml",
    "load",
]
