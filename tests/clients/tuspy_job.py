"""Uploads one file with tuspy, as the job on standard input says; what came of it as JSON.

job: endpoint, token, path; options: of the uploader; storage: a file for remembered addresses;
stop_at: ends there; is_async. A program of its own, because tuspy blocks where it waits.
"""

import asyncio
import json
import sys
from typing import Any

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.storage.filestorage import FileStorage


def main(job: dict[str, Any]) -> dict[str, Any]:
    client = TusClient(job["endpoint"], headers={"Authorization": f"Bearer {job['token']}"})
    options = dict(job.get("options", {}))
    storage_type: Any = FileStorage  # it is not typed
    storage = storage_type(job["storage"]) if "storage" in job else None
    if storage is not None:
        options |= {"store_url": True, "url_storage": storage}
    make: Any = client.async_uploader if job.get("is_async") else client.uploader
    try:
        uploader = make(job["path"], **options)
        begun_at = uploader.offset
        upload = uploader.upload(stop_at=job.get("stop_at"))
        if job.get("is_async"):
            asyncio.run(upload)
    except TusCommunicationError as err:
        return {"ok": False, "error": str(err), "status": err.status_code}
    finally:
        if storage is not None:
            storage.close()
    return {"ok": True, "url": uploader.url, "offset": uploader.offset, "begun_at": begun_at}


if __name__ == "__main__":
    print(json.dumps(main(json.load(sys.stdin))))
