"""The async SDK: everything that a filestore server offers, for Python programs.

It speaks HTTP and nothing else: no server code, no database.
"""

from filestore.client.client import Client
from filestore.client.download import Downloaded
from filestore.client.files import FileFacts
from filestore.client.people import TokenWish
from filestore.client.problems import document_of
from filestore.client.retry import RetryPolicy
from filestore.client.upload import Target, Uploaded
from filestore.client.watcher import Nobody, Watcher

__all__ = [
    "Client",
    "Downloaded",
    "FileFacts",
    "Nobody",
    "RetryPolicy",
    "Target",
    "TokenWish",
    "Uploaded",
    "Watcher",
    "document_of",
]
