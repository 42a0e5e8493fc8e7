"""A program that uploads a file with tuspy and can be killed: run by ``test_resume.py``.

Arguments: collection URL, token, file, file with remembered addresses, bytes a request. It
writes a line with the offset after each request.
"""

import sys
from pathlib import Path
from typing import Any

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage


def main(url: str, token: str, file: str, memory: str, piece: str) -> None:
    client = TusClient(url, headers={"Authorization": f"Bearer {token}"})
    storage_type: Any = FileStorage  # it is not typed
    storage = storage_type(memory)
    uploader: Any = client.uploader(
        file,
        chunk_size=int(piece),
        metadata={"filename": Path(file).name},
        store_url=True,
        url_storage=storage,
    )
    say(uploader.offset)
    while uploader.offset < uploader.get_file_size():
        uploader.upload_chunk()
        say(uploader.offset)
    storage.close()


def say(offset: int) -> None:
    sys.stdout.write(f"{offset}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
