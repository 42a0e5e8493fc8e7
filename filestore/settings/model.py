"""All sections together, and what follows from several of them."""

from urllib.parse import parse_qsl, urlencode

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from filestore.settings.sections import (
    S3,
    Audit,
    Blocks,
    Database,
    Fsck,
    Gc,
    Groups,
    Jobs,
    Journal,
    Log,
    Scrub,
    Server,
    Transfer,
    Uploads,
    Webhooks,
)


class Settings(BaseSettings):
    """All settings, checked and frozen. Made by :func:`load`; tests may construct it."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    server: Server = Server()
    database: Database = Database()
    blocks: Blocks = Blocks()
    s3: S3 = S3()
    transfer: Transfer = Transfer()
    uploads: Uploads = Uploads()
    groups: Groups = Groups()
    journal: Journal = Journal()
    gc: Gc = Gc()
    fsck: Fsck = Fsck()
    scrub: Scrub = Scrub()
    audit: Audit = Audit()
    jobs: Jobs = Jobs()
    webhooks: Webhooks = Webhooks()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed: no environment, unless :func:`load` reads it."""
        return (init_settings,)

    @property
    def database_url(self) -> str:
        """The database's URL, also when it is not set."""
        if self.database.url is not None:
            return self.database.url
        return f"sqlite+aiosqlite:///{self.server.data / 'filestore.sqlite3'}"

    @property
    def blocks_url(self) -> str:
        """The block store's URL, complete: of S3 with the prefix and region that are set."""
        url = self.blocks.url or f"file:{self.server.data / 'blocks'}"
        if not url.startswith("s3:"):
            return url
        base, _, query = url.partition("?")
        given = {"prefix": self.blocks.prefix, "region": self.s3.region}
        options = given | dict(parse_qsl(query, keep_blank_values=True))
        return f"{base}?{urlencode(options, safe='/')}"
