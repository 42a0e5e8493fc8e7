"""Webhooks: telling others of events, signed, at least once, and never where they must not go.

Messages follow the Standard Webhooks specification, 1.0.0. Like the collector, this package
stands on ``acts`` and ``meta``; nothing above it but the composition root and ``http`` knows it.
"""

from filestore.hooks.addresses import AddressPolicy
from filestore.hooks.signing import new_secret
from filestore.hooks.worker import Hooks, running_hooks

__all__ = ["AddressPolicy", "Hooks", "new_secret", "running_hooks"]
