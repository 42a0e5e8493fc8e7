"""The table of tus 1.0.0: every check by its letter.

C core, H HEAD, P PATCH, N creation, D deferred length, W creation with upload, E expiration,
K checksum, T termination. What needs two connections at once, time that passes, or a broken
connection is in the other files here; concatenation and the method override are no
part of the service.
"""

from tests.protocol.rows import Row
from tests.protocol.table_core import CORE, HEAD
from tests.protocol.table_creation import CREATION
from tests.protocol.table_extensions import CHECKSUM, EXPIRATION, TERMINATION
from tests.protocol.table_lengths import DEFER, WITH_UPLOAD
from tests.protocol.table_patch import PATCH

TABLE: list[Row] = [
    *(*CORE, *HEAD, *PATCH),
    *(*CREATION, *DEFER, *WITH_UPLOAD),
    *(*EXPIRATION, *CHECKSUM, *TERMINATION),
]
