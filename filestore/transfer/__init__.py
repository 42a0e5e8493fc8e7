"""The hot path: bytes come in, are cut, hashed, deduplicated, stored and recorded; and go out.

An upload request is a pipeline of three stages (:mod:`.ingest`): *read* drains the socket,
*cut* hashes on a worker thread, *record* commits in order. Everything between them is bounded
by one memory budget for the process, so a slow store slows the socket.
"""
