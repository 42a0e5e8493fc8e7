"""The SDK's one door: everything that a server offers, as async methods."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from filestore.client.books import Books
from filestore.client.damage import Damage
from filestore.client.download import Download, Downloaded
from filestore.client.files import Files
from filestore.client.groups import Groups
from filestore.client.identity import Identity, identity_of
from filestore.client.jobs import Jobs
from filestore.client.people import Tokens, Users
from filestore.client.retry import TRANSFERS, RetryPolicy
from filestore.client.space import Space
from filestore.client.state import TransferRecords, default_state_folder
from filestore.client.statements import Statements
from filestore.client.stream import Stream, Write
from filestore.client.temporary import Temporary
from filestore.client.transport import Transport
from filestore.client.tree import Trash, Tree
from filestore.client.tus import Uploads
from filestore.client.upload import Target, Upload, Uploaded, UploadPorts
from filestore.client.watcher import Nobody, Watcher
from filestore.client.webhooks import Events, Webhooks
from filestore.errors import Language


class Client:
    """A connection to one server with one access token. An async context manager.

    Errors are those of :mod:`filestore.errors`, the same that the server raised. Passing
    failures are tried again; see :meth:`Transport.call` for what is safe. ``state_folder`` is
    where transfers are remembered (None: the user's state folder).
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        language: Language = "en",
        state_folder: Path | None = None,
        retry: RetryPolicy | None = None,
        transfer_retry: RetryPolicy = TRANSFERS,
    ) -> None:
        self._transport = Transport(url, token, language=language, retry=retry)
        folder = state_folder or default_state_folder(os.environ)
        self._upload_records = TransferRecords(folder / "uploads")
        self._download_records = TransferRecords(folder / "downloads")
        self._transfer_retry = transfer_retry
        self._token = token
        self._identity: Identity | None = None
        self.groups = Groups(self._transport)
        self.users = Users(self._transport)
        self.tokens = Tokens(self._transport)
        self.tree = Tree(self._transport)
        self.trash = Trash(self._transport)
        self.files = Files(self._transport)
        self.uploads = Uploads(self._transport)
        self.jobs = Jobs(self._transport)
        self.space = Space(self._transport)
        self._damage = Damage(self.space)
        self.temporary = Temporary(self._transport)
        self.webhooks = Webhooks(self._transport)
        self.events = Events(self._transport)
        self.books = Books(self._transport)
        self.statements = Statements(self._transport)

    def __repr__(self) -> str:
        return f"<Client of {self.server}>"

    @property
    def server(self) -> str:
        return self._transport.server

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc, traceback)

    async def identity(self) -> Identity:
        """Whose token this is; asked once."""
        if self._identity is None:
            self._identity = await identity_of(self._token, self.tokens, self.users)
        return self._identity

    async def upload(
        self,
        source: Path,
        target: Target,
        *,
        verify: bool = False,
        media_type: str | None = None,
        watcher: Watcher | None = None,
    ) -> Uploaded:
        """Brings a local file to ``target``; safe to repeat, see :class:`Upload`.

        With ``verify`` the file is hashed first, and the server accepts only these bytes; then
        another device with the same file can go on, too. Without ``media_type`` the name's
        extension tells it.
        """
        ports = UploadPorts(self.uploads, self.files, self.tree, self._damage, self._upload_records)
        return await Upload(source, target, ports, media_type).run(
            server=self.server,
            identify=self.identity,
            verify=verify,
            retry=self._transfer_retry,
            watcher=watcher or Nobody(),
        )

    async def download(
        self,
        group: str,
        path: str,
        destination: Path,
        *,
        replace: bool = False,
        watcher: Watcher | None = None,
    ) -> Downloaded:
        """Brings a file to the local path ``destination``; safe to repeat, see :class:`Download`.

        A different file there is replaced only with ``replace``.
        """
        download = Download(group, path, destination, self.files, self._download_records)
        return await download.run(
            server=self.server,
            replace=replace,
            retry=self._transfer_retry,
            watcher=watcher or Nobody(),
        )

    async def stream(
        self, group: str, path: str, write: Write, *, watcher: Watcher | None = None
    ) -> Downloaded:
        """Writes a file's bytes, in order, with ``write``; see :class:`Stream`."""
        stream = Stream(group, path, write, self.files)
        return await stream.run(retry=self._transfer_retry, watcher=watcher or Nobody())
