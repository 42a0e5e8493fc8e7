"""The clients that are measured, each run in a process of its own by ``ingest.py``.

They are as cheap as clients can be, because they share the machine with what is measured: the
bytes lie in memory already and go to the socket without passing through Python. Each prints
the seconds from its first request to its last answer.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from blake3 import blake3
from minio import Minio

PIECE = 1024 * 1024


def tus_file(url: str, token: str, group: str, name: str, file: str) -> None:
    """One stream over tus: a creation, and one PATCH with all bytes of a file."""
    with Path(file).open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        _tus(url, token, group, name, size, lambda connection: connection.sendfile(source))


def tus_stream(url: str, token: str, group: str, name: str, seed: str, size: int) -> None:
    """The same with bytes that are made while they are sent: 5 GB/s, so a tenth of a core."""

    def send(connection: socket.socket) -> None:
        for piece in stream(seed, size):
            connection.sendall(piece)

    _tus(url, token, group, name, size, send)


def put_object(endpoint: str, access: str, secret: str, bucket: str, file: str) -> None:
    """The rival on S3: the plain SDK with its defaults, parts of 5 MiB on three threads."""
    client = Minio(endpoint, access_key=access, secret_key=secret, secure=False, region="us-east-1")
    if not client.bucket_exists(bucket):
        client.make_bucket(bucket)
    with Path(file).open("rb") as source:
        began = time.perf_counter()
        client.put_object(bucket, "rival", source, os.fstat(source.fileno()).st_size)
        print(time.perf_counter() - began)
    client.remove_object(bucket, "rival")


def write_file(folder: str, file: str) -> None:
    """The rival on a disk: a plain write of the same bytes, and one fsync at the end."""
    target = Path(folder, "rival")
    with Path(file).open("rb") as source, target.open("wb", buffering=0) as sink:
        began = time.perf_counter()
        while piece := source.read(PIECE):
            sink.write(piece)
        os.fsync(sink.fileno())
        print(time.perf_counter() - began)
    target.unlink()


def stream(seed: str, size: int) -> Iterable[bytes]:
    """Random bytes in pieces; equal seeds give equal bytes."""
    source = blake3(seed.encode())
    for at in range(0, size, PIECE):
        yield source.digest(min(PIECE, size - at), seek=at)


def _tus(
    url: str, token: str, group: str, name: str, size: int, send: Callable[[socket.socket], Any]
) -> None:
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port)) as connection:
        common = f"Host: bench\r\nAuthorization: Bearer {token}\r\nTus-Resumable: 1.0.0\r\n"
        began = time.perf_counter()
        connection.sendall(
            f"POST /api/v1/groups/{group}/uploads HTTP/1.1\r\n{common}"
            f"Upload-Length: {size}\r\nUpload-Metadata: filename {name}\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        location = _answer(connection, 201)["location"]
        connection.sendall(
            f"PATCH {urlsplit(location).path} HTTP/1.1\r\n{common}Upload-Offset: 0\r\n"
            "Content-Type: application/offset+octet-stream\r\n"
            f"Content-Length: {size}\r\n\r\n".encode()
        )
        send(connection)
        assert int(_answer(connection, 204)["upload-offset"]) == size
        print(time.perf_counter() - began)


def _answer(connection: socket.socket, status: int) -> dict[str, str]:
    """The headers of an answer that has no body."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65536)
        assert piece, "the server closed the connection"
        received += piece
    first, *lines = received.decode("latin-1").split("\r\n")
    assert int(first.split()[1]) == status, received.decode("latin-1")
    pairs = (line.partition(":") for line in lines if line)
    return {key.lower(): value.strip() for key, _, value in pairs}


if __name__ == "__main__":
    command, arguments = json.loads(sys.argv[1])
    {run.__name__: run for run in (tus_file, tus_stream, put_object, write_file)}[command](
        *arguments
    )
