"""filestore: group storage for large files."""

__version__ = "0.1.0"
