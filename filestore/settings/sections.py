"""Every setting, by section: what it means, its range, its default, and why that is the default."""

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from filestore.model import GIB, KIB, MIB
from filestore.settings.kinds import (
    BlocksUrl,
    DatabaseUrl,
    HttpUrl,
    Listen,
    Networks,
    Origins,
    Size,
    setting,
    split_listen,
)

_DAY_S: Final = 86_400
_TIB: Final = 1024 * GIB


class Section(BaseModel):
    """One table of the TOML file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_booleans(cls, value: object) -> object:
        """TOML's true would otherwise be taken for the number 1."""
        if isinstance(value, bool):
            raise ValueError("no setting is a yes or no")
        return value


class Server(Section):
    """How clients reach the service, and how long it waits for them."""

    data: Path = setting(
        Path("filestore-data"),
        "Folder of the embedded database and blocks, and of admin.token.",
        allowed="a path; a relative one counts from the working folder",
        why="the first start needs no set-up and no rights",
    )
    listen: Listen = setting(
        "127.0.0.1:8080",
        "Address and port that the service listens on; port 0 takes a free one.",
        allowed="HOST:PORT, such as 0.0.0.0:8080 or [::]:8080",
        why="nobody else reaches a service that has just been tried out",
    )
    workers: int = setting(
        1,
        "Processes that serve. More than 1 needs PostgreSQL.",
        ge=1,
        le=64,
        why="SQLite takes one process, and hashing already uses several cores in threads",
    )
    base_url: HttpUrl | None = setting(
        None,
        "URL under which clients see the service. Not set: taken from each request.",
        allowed="http:// or https://, host, maybe a port and a path",
        example="https://files.example.org",
        why="right unless a proxy changes host, scheme or path",
    )
    max_header_size: Size = setting(
        128 * KIB,
        "Bytes of one header or of the request line; all of a request may have 64 KiB more.",
        ge=8 * KIB,
        le=MIB,
        why="1,000 absolute addresses of partial uploads in Upload-Concat fit",
    )
    header_timeout_s: float = setting(
        15.0,
        "Time in seconds for a whole header, from a connection's start or the header's first byte.",
        ge=1,
        le=300,
        why="a slow phone needs a few; a client that is silent on purpose gets no more",
    )
    keepalive_s: float = setting(
        75.0,
        "Time in seconds that an idle connection is kept.",
        ge=0,
        le=3600,
        why="longer than proxies keep theirs (60 s), so they do not meet a closed connection",
    )
    read_timeout_s: float = setting(
        60.0,
        "Time in seconds in which an upload must bring 1 KiB, or its request ends; its bytes are"
        " kept.",
        ge=1,
        le=3600,
        why="long enough for a change of network, short enough to free the upload for its client",
    )
    write_timeout_s: float = setting(
        60.0,
        "Time in seconds in which a client must take 64 KiB of an answer, or it is cut off.",
        ge=1,
        le=3600,
        why="1 kB/s is enough; who takes nothing does not hold memory for ever",
    )
    max_connections: int = setting(
        1000,
        "Connections that each process holds open; one more is answered 503 and closed.",
        ge=1,
        le=100_000,
        why="some 100 MiB if all send at once; each takes one of the process's open files",
    )
    start_s: float = setting(
        120.0,
        "Time in seconds within which each of several workers is ready, or is killed and replaced.",
        ge=5,
        le=3600,
        why="patience with a store fits, and a migration comes before; one that hangs does not hold"
        " its place",
    )
    shutdown_s: float = setting(
        8.0,
        "Time in seconds within which the service ends when it is told to; requests flush in 80 %"
        " of it.",
        ge=0,
        le=600,
        why="containers are killed after 10 s, and workers that hang a second later than this",
    )
    metrics: Literal["admin", "public"] = setting(
        "admin",
        "Who may read /metrics: site admins with their token, or everybody.",
        allowed="admin or public",
        why="figures tell how much a service is used; a scraper can be given a token",
    )
    trusted_proxies: Networks = setting(
        (),
        "Networks whose Forwarded and X-Forwarded-* headers are believed.",
        allowed="a list of addresses or networks; in the environment separated by commas",
        example='["127.0.0.1/32", "::1/128"]',
        why="anybody can send these headers",
    )
    cors_origins: Origins = setting(
        (),
        "Origins whose pages may use the service from a browser; * allows all of them.",
        allowed="a list of origins or *; in the environment separated by commas",
        example='["https://app.example.org"]',
        why="pages of the service itself need none; the token stays what opens everything",
    )

    @property
    def host(self) -> str:
        return split_listen(self.listen)[0]

    @property
    def port(self) -> int:
        return split_listen(self.listen)[1]


class Database(Section):
    """Where metadata lies."""

    url: DatabaseUrl | None = setting(
        None,
        "URL of the database. Not set: SQLite in the data folder.",
        allowed="sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER:PASSWORD@HOST/NAME",
        example="postgresql+asyncpg://filestore@/filestore?host=/run/postgresql",
        why="the first start needs no server",
        secret=True,
    )
    pool_size: int = setting(
        10,
        "Connections that each process keeps to PostgreSQL, beside one that listens. SQLite has 4"
        " readers and one writer.",
        ge=2,
        le=200,
        why="a transaction takes milliseconds; 8 processes stay below PostgreSQL's default of 100",
    )


class Blocks(Section):
    """Where the bytes lie, and how they get there."""

    url: BlocksUrl | None = setting(
        None,
        "URL of the block store. Not set: the folder blocks in the data folder.",
        allowed="file:DIR or s3://HOST:PORT/BUCKET, with ?secure=false for plain HTTP",
        example="s3://minio.example.org:9000/filestore",
        why="the first start needs no server",
    )
    prefix: str = setting(
        "blocks",
        "What every key in a bucket begins with; ?prefix= in the URL wins. Not for a folder.",
        pattern=r"^[0-9A-Za-z_-]{1,64}(?:/[0-9A-Za-z_-]{1,64}){0,3}$",
        allowed="1 to 4 parts of letters, digits, '-' and '_' with slashes between",
        why="a bucket can then hold something else as well",
    )
    put_deadline_s: float = setting(
        600.0,
        "Time in seconds after which a block that is not stored yet is given up.",
        ge=10,
        le=86_400,
        why="ten full request timeouts; the collector waits twice this before it cleans up",
    )
    request_timeout_s: float = setting(
        60.0,
        "Time in seconds for one request to the block store.",
        ge=1,
        le=3600,
        why="a block of 4 MiB that takes longer comes at less than 70 kB/s",
    )
    max_puts: int = setting(
        16,
        "Blocks that one process writes at a time.",
        ge=1,
        le=1024,
        why="16 blocks of 1 MiB fill 10 Gbit/s if the store answers within 13 ms",
    )
    max_gets: int = setting(
        32,
        "Blocks that one process reads at a time.",
        ge=1,
        le=1024,
        why="twice the writes: reads hold no row of the database meanwhile",
    )
    retries: int = setting(
        5,
        "Repetitions of a failed request, with growing pauses, before the client hears of it.",
        ge=0,
        le=20,
        why="some 10 s in all, enough for a store to restart; then the client decides",
    )
    free_reserve_bytes: Size = setting(
        64 * MIB,
        "Bytes of the disk that blocks never use (folder only); below, uploads get 503.",
        ge=0,
        le=_TIB,
        why="the SQLite database beside them must still be able to write, also to free blocks",
    )
    zstd_level: int = setting(
        3,
        "Effort of compression; a block that does not shrink is stored as it is.",
        ge=1,
        le=19,
        why="zstd's own default; compression must keep up with a fast upload",
    )


class S3(Section):
    """Keys and region of an S3 block store."""

    access_key: SecretStr | None = setting(
        None,
        "Access key. Needed with an s3:// block store.",
        allowed="text",
        example="...",
        why="there is no key that could be right by default",
        secret=True,
    )
    secret_key: SecretStr | None = setting(
        None,
        "Secret key. Needed with an s3:// block store.",
        allowed="text",
        example="...",
        why="there is no key that could be right by default",
        secret=True,
    )
    region: str = setting(
        "us-east-1",
        "Region that requests are signed for; ?region= in the URL wins.",
        pattern=r"^[0-9A-Za-z_-]{1,50}$",
        allowed="1 to 50 letters, digits, '-' and '_'",
        why="what MinIO and SeaweedFS take; always set, because asking the store blocks",
    )


class Transfer(Section):
    """The hot path: memory, threads, and how much is under way at once."""

    memory_budget_bytes: Size = setting(
        192 * MIB,
        "Bytes of buffers that all transfers of one process may hold together.",
        ge=32 * MIB,
        le=_TIB,
        why="8 fast uploads with 3 buffers of 8 MiB each; a process stays below 512 MiB",
    )
    buffer_min_bytes: Size = setting(
        64 * KIB,
        "Bytes of an upload's buffer when it begins.",
        ge=16 * KIB,
        le=8 * MIB,
        why="one full socket buffer: a slow upload holds no more than it needs",
    )
    buffer_max_bytes: Size = setting(
        8 * MIB,
        "Bytes that a fast upload's buffer grows to; one hop to a thread each.",
        ge=64 * KIB,
        le=64 * MIB,
        why="a hop costs some 0.1 ms and hashing 8 MiB some 10 ms",
    )
    batches_in_flight: int = setting(
        2,
        "Batches of one upload that are being stored while the next is received.",
        ge=1,
        le=16,
        why="hides one slow answer of the store; more only holds memory",
    )
    read_ahead: int = setting(
        4,
        "Blocks of one download that are fetched before they are needed.",
        ge=1,
        le=32,
        why="4 blocks of 1 MiB bridge 30 ms of a store's answer at 1 Gbit/s",
    )
    threads: int = setting(
        4,
        "Threads of one process that cut, hash, compress and read the disk.",
        ge=1,
        le=64,
        why="the work runs without the interpreter's lock, so it fills up to 4 cores",
    )
    verify_wait_s: float = setting(
        30.0,
        "Time in seconds that an upload's last request waits for its digest to be computed.",
        ge=0,
        le=300,
        why="below the 60 s after which common proxies give up; the client then asks again",
    )
    lock_wait_s: float = setting(
        5.0,
        "Time in seconds that a request waits for another one to let go of the same upload.",
        ge=0.1,
        le=60,
        why="a holder only has to store what it has; the client asks again anyway",
    )
    memory_wait_s: float = setting(
        30.0,
        "Time in seconds that a transfer waits for memory before it is told to come again.",
        ge=1,
        le=600,
        why="below the 60 s after which common proxies give up; slow clients let go in less",
    )


class Uploads(Section):
    """Limits and life of unfinished uploads."""

    max_size_bytes: Size = setting(
        5 * _TIB,
        "Bytes of one file, at most.",
        ge=MIB,
        le=1024 * _TIB,
        why="the largest object of S3, which other tools can still take",
    )
    expire_after_s: int = setting(
        _DAY_S,
        "Time in seconds without progress after which an upload is given up.",
        ge=60,
        le=365 * _DAY_S,
        why="a laptop may be closed overnight; its reservation blocks the group's quota",
    )
    expire_cap_s: int = setting(
        30 * _DAY_S,
        "Time in seconds after which an upload is given up, progress or not.",
        ge=60,
        le=3650 * _DAY_S,
        why="5 TiB at 2 MB/s; a reservation cannot be kept for ever",
    )
    running_per_user: int = setting(
        1000,
        "Unfinished uploads of one user.",
        ge=1,
        le=1_000_000,
        why="many small files at once are normal; a client in a loop is not",
    )
    running_per_group: int = setting(
        2000,
        "Unfinished uploads of one group.",
        ge=1,
        le=1_000_000,
        why="two users at their limit; each costs a row and no memory",
    )
    keep_ended_s: int = setting(
        365 * _DAY_S,
        "Time in seconds that an upload that has ended is remembered.",
        ge=_DAY_S,
        le=3650 * _DAY_S,
        why="a lost answer is asked again within days; the collector's reports name by it the"
        " group whose bytes they free",
    )
    reserve_step_bytes: Size = setting(
        64 * MIB,
        "Bytes reserved at a time for an upload of unknown length.",
        ge=MIB,
        le=_TIB,
        why="one transaction a second at 64 MB/s, and little reserved in vain",
    )


class Jobs(Section):
    """Long work that was asked for: collections, checks, scrubs."""

    keep_s: int = setting(
        30 * _DAY_S,
        "Time in seconds that a job that has ended is listed, with its report.",
        ge=3600,
        le=3650 * _DAY_S,
        why="last month's reports can be compared; the audit log keeps that there was one",
    )


class Webhooks(Section):
    """Telling others of events."""

    allowed_networks: Networks = setting(
        (),
        "Networks besides public addresses that webhooks may go to, there also without TLS.",
        allowed="a list of addresses or networks; in the environment separated by commas",
        example='["10.1.2.0/24"]',
        why="managers choose the URLs; they must not reach what only the service can reach",
    )
    timeout_s: float = setting(
        10.0,
        "Time in seconds in which a receiver must answer.",
        ge=1,
        le=60,
        why="a receiver queues what it is told; one that works before it answers takes longer",
    )
    concurrency: int = setting(
        8,
        "Messages that one process sends at a time; of one webhook one, over all processes.",
        ge=2,
        le=64,
        why="half of them may wait for receivers that fail, and the rest is still served",
    )
    disable_after_s: int = setting(
        5 * _DAY_S,
        "Time in seconds without any success after which a webhook is disabled.",
        ge=3600,
        le=365 * _DAY_S,
        why="a receiver that fails over a long weekend is still there on Tuesday",
    )
    keep_s: int = setting(
        30 * _DAY_S,
        "Time in seconds that events and their deliveries are listed.",
        ge=2 * _DAY_S,
        le=3650 * _DAY_S,
        why="last month's can be looked up; retries take a day, and the audit log keeps the rest",
    )


class Journal(Section):
    """Sealing of the quota journals: hashes of their rows that are put outside of the database."""

    seal_interval_s: int = setting(
        60,
        "Time in seconds after which a row of a journal is sealed.",
        ge=1,
        le=_DAY_S,
        why="what was sealed cannot be rewritten unseen; a minute is one object in the store",
    )
    seal_rows: int = setting(
        1000,
        "Rows of one group's journal that are sealed before their time is up, and with one seal.",
        ge=1,
        le=100_000,
        why="hashing them takes milliseconds; a burst of uploads is sealed while it goes on",
    )


class Groups(Section):
    """What a new group gets."""

    default_quota_bytes: Size = setting(
        10 * GIB,
        "Quota in bytes of a group that is created without one.",
        ge=0,
        le=1024 * _TIB,
        why="enough to try, too little to fill a disk unseen",
    )
    trash_retention_s: int = setting(
        30 * _DAY_S,
        "Time in seconds that deleted files stay in the trash, charged to the group.",
        ge=0,
        le=3650 * _DAY_S,
        why="a month is when people miss a file",
    )
    versions_keep: int = setting(
        0,
        "Versions of a file, the current one included, that a new group keeps. 0: no such rule;"
        " without this and versions_keep_s all are kept.",
        ge=0,
        le=1_000_000,
        why="nothing that somebody stored goes unless somebody wanted that",
    )
    versions_keep_s: int = setting(
        0,
        "Time in seconds that a new group keeps a version after a newer one replaced it. 0: no"
        " such rule. With versions_keep, a version goes when neither keeps it.",
        ge=0,
        le=3650 * _DAY_S,
        why="nothing that somebody stored goes unless somebody wanted that",
    )


class Gc(Section):
    """Collection of what nothing refers to any more."""

    grace_s: int = setting(
        _DAY_S,
        "Time in seconds between a block losing its last reference and its removal.",
        ge=0,
        le=365 * _DAY_S,
        why="safe at 0; a day lets readers finish and last night's database backup be restored",
    )
    interval_s: float = setting(
        60.0,
        "Time in seconds that collection rests between two runs, over all processes together.",
        ge=1,
        le=_DAY_S,
        why="a look costs some milliseconds when there is nothing to do; uploads expire this late",
    )
    removals_per_s: float = setting(
        1000.0,
        "Blocks that one process removes from the store in a second, at most.",
        ge=1,
        le=1_000_000,
        why="a bulk delete of S3 takes 1000; about 1 GB a second, and disks keep up with uploads",
    )
    workers: int = setting(
        4,
        "Batches of blocks that are collected at once. With SQLite one, whatever this says.",
        ge=1,
        le=32,
        why="hides the answer times of database and store, and leaves connections for requests",
    )


class Fsck(Section):
    """What a repair does with objects that no row names."""

    orphan_age_s: int = setting(
        _DAY_S,
        "Age in seconds from which a repair sets aside objects that no row names.",
        ge=0,
        le=365 * _DAY_S,
        why="safe at 0, since each is looked for twice; a day is a belt",
    )
    quarantine_s: int = setting(
        30 * _DAY_S,
        "Time in seconds that objects are kept aside before a repair removes them for good.",
        ge=0,
        le=3650 * _DAY_S,
        why="who restored a wrong backup notices within a month",
    )


class Scrub(Section):
    """Reading back of what is stored."""

    bytes_per_s: Size = setting(
        50 * MIB,
        "Bytes that one scrub reads in a second, at most.",
        ge=64 * KIB,
        le=100 * GIB,
        why="a fifth of what one disk gives; 4 TiB take a day",
    )
    interval_s: int = setting(
        30 * _DAY_S,
        "Time in seconds within which the service reads each block again by itself. 0: never."
        " It goes as slowly as that allows.",
        ge=0,
        le=3650 * _DAY_S,
        why="a disk that decays is noticed while other copies are still there; 4 TiB are 4 MB/s",
    )


class Audit(Section):
    """Holding counters and journals of quotas against what is there."""

    interval_s: int = setting(
        _DAY_S,
        "Time in seconds that the audit which the service does by itself rests. 0: never.",
        ge=0,
        le=365 * _DAY_S,
        why="a difference is told of within a day; it works a quarter of its time, without locks",
    )


class Log(Section):
    """What goes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info",
        "Least grave messages that are written.",
        allowed="debug, info, warning or error",
        why="one line a request and one for what went wrong",
    )
    format: Literal["auto", "console", "json"] = setting(
        "auto",
        "Shape of a line; auto: console on a terminal, otherwise json.",
        allowed="auto, console or json",
        why="people read terminals, programs read the rest",
    )
