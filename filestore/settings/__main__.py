"""``python -m filestore.settings``: prints ``config/default.toml``."""

import sys

from filestore.settings.template import default_toml

if __name__ == "__main__":
    sys.stdout.write(default_toml())
