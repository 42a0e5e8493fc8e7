"""The table of the draft: flows, and the checklist of what a server must do.

V which version speaks, F1 to F6 the flows, L1 to L12 the checklist, M malformed fields, N names,
D digests, C conditions, X crossing protocols. What needs a broken connection, two connections or
time that passes is in ``test_ietf_*.py``.
Source: draft-ietf-httpbis-resumable-upload, -05 (interop version 6) and -11 (8).
"""

from tests.protocol.ietf_rows import Row
from tests.protocol.table_ietf_around import CONDITIONS, CROSSING
from tests.protocol.table_ietf_fields import DIGESTS, MALFORMED, NAMES
from tests.protocol.table_ietf_flows import FLOWS, VERSIONS
from tests.protocol.table_ietf_lengths import LENGTHS

TABLE: list[Row] = [
    *(*VERSIONS, *FLOWS, *LENGTHS, *MALFORMED),
    *(*NAMES, *DIGESTS, *CONDITIONS, *CROSSING),
]
