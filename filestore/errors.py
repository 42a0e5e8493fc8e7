"""Every error of filestore: one tree of exceptions, one table of what they mean.

An exception carries members (which thing, expected, got), never a sentence. The sentence
comes from the table, in English or Chinese, so HTTP answers, the CLI and logs say the
same. A member never holds a secret.
"""

from dataclasses import dataclass
from typing import ClassVar, Final, Literal

Language = Literal["en", "zh"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

TYPE_PREFIX: Final = "urn:filestore:problem:"
"""Before a code, it makes the stable ``type`` of a problem document (RFC 9457, 3.1.1)."""

_IANA_TYPE: Final = "https://iana.org/assignments/http-problem-types#"

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_REFUSED: Final = 3
EXIT_NOT_FOUND: Final = 4


@dataclass(frozen=True, slots=True)
class ErrorSpec:
    """What one code means. ``detail`` templates name members in braces."""

    status: int
    title: dict[Language, str]
    detail: dict[Language, str]
    retryable: bool = False
    exit_code: int = EXIT_FAILED
    type: str | None = None
    """The problem's type where a standard names it; else it is made from the code."""


def _spec(
    status: int,
    en: tuple[str, str],
    zh: tuple[str, str],
    *,
    retryable: bool = False,
    exit_code: int = EXIT_FAILED,
    type: str | None = None,
) -> ErrorSpec:
    title: dict[Language, str] = {"en": en[0], "zh": zh[0]}
    return ErrorSpec(status, title, {"en": en[1], "zh": zh[1]}, retryable, exit_code, type)


CATALOG: Final[dict[str, ErrorSpec]] = {
    # 400: the request cannot be understood
    "bad-header": _spec(
        400,
        ("Bad header", "Header {header}: {reason}."),
        ("请求头有误", "请求头 {header}：{reason}。"),
        exit_code=EXIT_USAGE,
    ),
    "bad-request": _spec(
        400,
        ("Bad request", "{field}: {reason}."),
        ("请求有误", "{field}：{reason}。"),
        exit_code=EXIT_USAGE,
    ),
    "bad-name": _spec(
        400,
        ("Bad name", 'The name "{name}" is not allowed: {reason}.'),
        ("名称无效", "名称“{name}”不被允许：{reason}。"),
        exit_code=EXIT_USAGE,
    ),
    "length-mismatch": _spec(
        400,
        ("Length does not match", "The body has {got} bytes, but {expected} were announced."),
        ("长度不符", "正文有 {got} 字节，但声明的是 {expected} 字节。"),
    ),
    "inconsistent-upload-length": _spec(
        400,
        (
            "Inconsistent length",
            "The upload has {expected} bytes by one statement and {got} by another.",
        ),
        ("长度不一致", "一处声明上传长度为 {expected} 字节，另一处为 {got} 字节。"),
        type=_IANA_TYPE + "inconsistent-upload-length",
    ),
    "content-mismatch": _spec(
        400,
        (
            "The content does not have its digest",
            "{algorithm} of the content is not the one in Content-Digest; nothing was appended.",
        ),
        ("内容摘要不符", "内容的 {algorithm} 与 Content-Digest 不一致；未追加任何数据。"),
        retryable=True,
    ),
    # 401, 403, 404: who may
    "unauthenticated": _spec(
        401,
        (
            "Not authenticated",
            "A valid access token is needed in the header Authorization: Bearer.",
        ),
        ("未通过身份验证", "请在请求头 Authorization: Bearer 中提供有效的访问令牌。"),
        exit_code=EXIT_REFUSED,
    ),
    "forbidden": _spec(
        403,
        ("Not allowed", "This needs {needed}."),
        ("没有权限", "此操作需要：{needed}。"),
        exit_code=EXIT_REFUSED,
    ),
    "final-upload": _spec(
        403,
        (
            "The upload takes no bytes",
            "This upload is put together from others by Upload-Concat; it takes no bytes itself.",
        ),
        ("此上传不接受数据", "此上传由 Upload-Concat 用其他上传拼接而成，本身不接受数据。"),
        exit_code=EXIT_REFUSED,
    ),
    "not-found": _spec(
        404,
        ("Not found", "There is no such {what}, or it is not visible to you."),
        ("未找到", "没有这样的 {what}，或您无权查看。"),
        exit_code=EXIT_NOT_FOUND,
    ),
    "method-not-allowed": _spec(
        405,
        ("Method not allowed", "{method} is not possible here; possible are {allowed}."),
        ("不支持的方法", "此处不支持 {method}；可用的有 {allowed}。"),
    ),
    "request-timeout": _spec(
        408,
        (
            "The client was silent",
            "Too few bytes came within {seconds} s; what came before is kept.",
        ),
        ("客户端超时", "{seconds} 秒内收到的数据过少；之前收到的已保留。"),
        retryable=True,
    ),
    # 409, 410, 412: the state of things
    "conflict": _spec(
        409,
        ("Conflict", "{what} cannot be done: {reason}."),
        ("冲突", "无法执行 {what}：{reason}。"),
    ),
    "exists": _spec(
        409,
        ("Already exists", 'There is already a {what} named "{name}".'),
        ("已存在", "名为“{name}”的 {what} 已存在。"),
    ),
    "last-admin": _spec(
        409,
        (
            "Nobody could administer the service",
            "{what} would leave no site admin with a token that works and has the scope admin."
            " Give another site admin such a token first.",
        ),
        (
            "将无人能管理服务",
            "{what} 之后，将没有任何站点管理员持有有效且带 admin 范围的令牌。"
            "请先为另一位站点管理员创建这样的令牌。",
        ),
        exit_code=EXIT_REFUSED,
    ),
    "over-committed": _spec(
        409,
        (
            "More would be promised than the site allows",
            "The limits of all groups would be {after} bytes together; at most {allowed} are"
            " allowed, {overcommit_percent} % of the pool of {pool} bytes. Of that, {free} are"
            " not promised yet.",
        ),
        (
            "超出站点允许的承诺总量",
            "所有群组的配额合计将达 {after} 字节；最多允许 {allowed} 字节，即存储池 {pool} 字节的"
            " {overcommit_percent} %。其中尚有 {free} 字节可分配。",
        ),
        exit_code=EXIT_REFUSED,
    ),
    "offset-mismatch": _spec(
        409,
        ("Offset does not match", "The upload is at byte {expected}, the request says {got}."),
        ("偏移量不符", "上传位于第 {expected} 字节，而请求给出的是 {got}。"),
        retryable=True,
    ),
    "mismatching-upload-offset": _spec(
        409,
        (
            "Offset does not match",
            "The upload is at byte {expected}, the request says {got}.",
        ),
        ("偏移量不匹配", "上传位于第 {expected} 字节，而请求给出 {got}。"),
        retryable=True,
        type=_IANA_TYPE + "mismatching-upload-offset",
    ),
    "wrong-protocol": _spec(
        409,
        (
            "The upload speaks another protocol",
            "This upload was begun by {spoken} and goes on by it; the request speaks {got}.",
        ),
        ("上传使用其他协议", "此上传以 {spoken} 协议开始，须以同一协议继续；请求使用 {got}。"),
    ),
    "upload-taken-over": _spec(
        409,
        (
            "Another request took over",
            "Another request goes on with this upload. Ask for the offset and continue there.",
        ),
        ("上传已被接管", "另一个请求正在继续此上传。请查询偏移量后继续。"),
        retryable=True,
    ),
    "upload-gone": _spec(
        410,
        ("The upload is gone", "This upload is {state} and cannot go on. Begin a new one."),
        ("上传已失效", "此上传状态为 {state}，无法继续。请重新开始上传。"),
        exit_code=EXIT_NOT_FOUND,
    ),
    "tail-lost": _spec(
        410,
        (
            "Bytes of the upload were lost",
            "The store lost bytes of this upload after it had them. Begin a new one.",
        ),
        ("上传数据丢失", "存储丢失了此上传已接收的数据。请重新开始上传。"),
    ),
    "precondition-failed": _spec(
        412,
        ("Precondition failed", "The file changed: it does not match {header}."),
        ("前提条件不满足", "文件已更改：与 {header} 不匹配。"),
    ),
    "tus-version": _spec(
        412,
        (
            "Protocol version not supported",
            "Uploads speak tus {supported}: send the header Tus-Resumable.",
        ),
        ("不支持的协议版本", "上传使用 tus {supported} 协议：请发送请求头 Tus-Resumable。"),
    ),
    # 413, 415, 416: bytes that are not taken or not there
    "too-large": _spec(
        413,
        ("Too large", "{what} has {got} bytes; the limit is {limit}."),
        ("过大", "{what} 有 {got} 字节；上限为 {limit}。"),
        exit_code=EXIT_REFUSED,
    ),
    "length-exceeded": _spec(
        413,
        (
            "More bytes than announced",
            "The upload has {expected} bytes, the request goes on to byte {got}.",
        ),
        ("超出声明的长度", "上传长度为 {expected} 字节，而请求延伸到第 {got} 字节。"),
    ),
    "quota-exceeded": _spec(
        413,
        (
            "The group's quota is used up",
            "{needed} bytes are needed, {free} are free of {limit}; running uploads reserve"
            " {reserved}, emptying the trash would free {freeable}, removing old versions"
            " {freeable_versions}.",
        ),
        (
            "群组配额不足",
            "需要 {needed} 字节，配额 {limit} 中剩余 {free}；进行中的上传预留了 {reserved}，"
            "清空回收站可释放 {freeable}，删除旧版本可释放 {freeable_versions}。",
        ),
        exit_code=EXIT_REFUSED,
    ),
    "files-exceeded": _spec(
        413,
        (
            "The group has as many files as it may",
            "{needed} new files are wanted, {free} are free of {limit}; {files} exist, with the"
            " trash, and running uploads reserve {reserved}.",
        ),
        (
            "群组文件数已达上限",
            "需要新增 {needed} 个文件，上限 {limit} 中剩余 {free}；现有 {files} 个（含回收站），"
            "进行中的上传预留了 {reserved} 个。",
        ),
        exit_code=EXIT_REFUSED,
    ),
    "share-exceeded": _spec(
        413,
        (
            "The member's share of the group is used up",
            "{needed} bytes are needed, {free} are free of the share of {share}; the member's files"
            " and uploads take {taken}.",
        ),
        (
            "成员份额不足",
            "需要 {needed} 字节，份额 {share} 中剩余 {free}；该成员的文件和上传占用 {taken}。",
        ),
        exit_code=EXIT_REFUSED,
    ),
    "uri-too-long": _spec(
        414,
        ("Address too long", "The address of the request has more than {limit} bytes."),
        ("地址过长", "请求地址超过 {limit} 字节。"),
        exit_code=EXIT_REFUSED,
    ),
    "bad-media-type": _spec(
        415,
        ("Content-Type not supported", "Content-Type must be {expected}, not {got}."),
        ("不支持的内容类型", "Content-Type 必须为 {expected}，而不是 {got}。"),
    ),
    "coded-body": _spec(
        415,
        (
            "Content-Encoding not supported",
            "Send the bytes as they are, without Content-Encoding: {got}.",
        ),
        ("不支持的内容编码", "请直接发送原始字节，不要使用 Content-Encoding: {got}。"),
    ),
    "range-not-satisfiable": _spec(
        416,
        ("Range not satisfiable", "The file has {size} bytes; the range lies outside."),
        ("范围无法满足", "文件有 {size} 字节；请求的范围不在其中。"),
    ),
    # 422, 423, 429, 460: what the bytes say, and when
    "unknown-kind": _spec(
        422,
        ("No such kind of job", "There is no kind of job called {kind}; there are: {known}."),
        ("没有这种任务", "没有名为 {kind} 的任务类型；可用的有：{known}。"),
        exit_code=EXIT_USAGE,
    ),
    "digest-mismatch": _spec(
        422,
        (
            "The file does not have the expected digest",
            "{algorithm} of what arrived is {got}, expected {expected}. The upload is ended.",
        ),
        (
            "文件摘要不符",
            "收到内容的 {algorithm} 为 {got}，应为 {expected}。上传已终止。",
        ),
    ),
    "idempotency-mismatch": _spec(
        422,
        (
            "The key belongs to another request",
            "This Idempotency-Key began an upload with another {field}: {got} instead of"
            " {expected}. Use a new key.",
        ),
        (
            "幂等键已被占用",
            "此 Idempotency-Key 曾用于开始另一个上传，{field} 不同：现为 {got}，原为 {expected}。"
            "请使用新的键。",
        ),
    ),
    "locked": _spec(
        423,
        ("The upload is busy", "Another request holds this upload and did not let go in time."),
        ("上传被占用", "另一个请求正占用此上传，未能及时释放。"),
        retryable=True,
    ),
    "too-many": _spec(
        429,
        ("Too many", "{what}: at most {limit}."),
        ("数量过多", "{what}：最多 {limit}。"),
        retryable=True,
    ),
    "header-too-large": _spec(
        431,
        ("Header too large", "Header {header}: name and value have more than {limit} bytes."),
        ("请求头过大", "请求头 {header}：名称和值合计超过 {limit} 字节。"),
        exit_code=EXIT_REFUSED,
    ),
    "checksum-mismatch": _spec(
        460,
        (
            "Checksum mismatch",
            "{algorithm} of the body is not the one in Upload-Checksum; the bytes were discarded.",
        ),
        ("校验和不符", "正文的 {algorithm} 与 Upload-Checksum 不一致；数据已丢弃。"),
        retryable=True,
    ),
    # 5xx: the server's side
    "internal": _spec(
        500,
        ("Internal error", "Something went wrong here. The request id is {request_id}."),
        ("内部错误", "服务器内部出错。请求编号为 {request_id}。"),
    ),
    "block-damaged": _spec(
        500,
        (
            "Stored bytes are damaged",
            "A part of this file is damaged in the store and is not served.",
        ),
        ("存储数据损坏", "此文件的一部分在存储中已损坏，无法提供。"),
    ),
    "store-unavailable": _spec(
        503,
        ("The store cannot be reached", "The store does not answer now: {reason}. Try again."),
        ("存储不可用", "存储目前没有响应：{reason}。请重试。"),
        retryable=True,
    ),
    "store-full": _spec(
        503,
        ("The store is full", "The store has no room left. Nothing was lost; try again later."),
        ("存储空间已满", "存储空间不足。没有数据丢失；请稍后重试。"),
        retryable=True,
    ),
    "database-unavailable": _spec(
        503,
        ("The database cannot be reached", "The database does not answer now. Try again."),
        ("数据库不可用", "数据库目前没有响应。请重试。"),
        retryable=True,
    ),
    "overloaded": _spec(
        503,
        ("The server is busy", "Too many transfers are under way at once. Try again."),
        ("服务器繁忙", "同时进行的传输过多。请重试。"),
        retryable=True,
    ),
    "verifying": _spec(
        503,
        (
            "The file is still being verified",
            "All bytes but the last are stored and are being hashed. Repeat the request.",
        ),
        ("文件仍在校验", "除末尾外的数据已保存，正在计算摘要。请重复此请求。"),
        retryable=True,
    ),
    "not-ready": _spec(
        503,
        ("The service is not ready", "It cannot work now, because of: {failing}. Try again."),
        ("服务未就绪", "目前无法工作，原因：{failing}。请重试。"),
        retryable=True,
    ),
    "busy": _spec(
        503,
        (
            "Too many connections",
            "{limit} {what} are open, as many as this server takes. Try again.",
        ),
        ("连接过多", "{what} 已达服务器上限 {limit}。请重试。"),
        retryable=True,
    ),
    "stopping": _spec(
        503,
        ("The server is stopping", "What arrived is kept. Go on in a moment."),
        ("服务器正在停止", "已收到的数据已保留。请稍后继续。"),
        retryable=True,
    ),
    # not over HTTP: start-up and the command line
    "bad-setting": _spec(
        500,
        ("Bad setting", "Setting {setting} ({source}): {reason}."),
        ("设置有误", "设置 {setting}（{source}）：{reason}。"),
        exit_code=EXIT_USAGE,
    ),
    "bad-settings": _spec(
        500,
        ("Bad settings", "{count} settings are wrong: {all}."),
        ("设置有误", "{count} 个设置有误：{all}。"),
        exit_code=EXIT_USAGE,
    ),
    "cannot-start": _spec(
        500,
        ("The service cannot start", "{reason}."),
        ("服务无法启动", "{reason}。"),
    ),
    "client": _spec(
        500,
        ("The command failed", "{reason}."),
        ("命令失败", "{reason}。"),
    ),
    "unreachable": _spec(
        500,
        ("The server cannot be reached", "{url} does not answer: {reason}."),
        ("无法连接服务器", "{url} 没有响应：{reason}。"),
        retryable=True,
    ),
    "foreign-answer": _spec(
        500,
        ("Not an answer of filestore", "The server answered {status}: {reason}."),
        ("响应无法识别", "服务器返回 {status}：{reason}。"),
    ),
    "local-file": _spec(
        500,
        ("A local file cannot be used", "{path}: {reason}."),
        ("无法使用本地文件", "{path}：{reason}。"),
    ),
    "source-changed": _spec(
        500,
        (
            "The file changed while it was uploaded",
            "{path} changed while it was being uploaded, so nothing was kept. Repeat the upload.",
        ),
        ("文件在上传期间已更改", "{path} 在上传期间被更改，未保留任何内容。请重新上传。"),
    ),
    "target-exists": _spec(
        500,
        (
            "A different file is in the way",
            "{path} exists and is not known to be the same file. Give --force to replace it.",
        ),
        ("目标文件已存在", "{path} 已存在，且无法确认内容相同。使用 --force 覆盖。"),
    ),
    "download-damaged": _spec(
        500,
        (
            "What arrived is not the file",
            "{path}: {algorithm} of what arrived is {got}, expected {expected}; it was discarded."
            " Repeat the download.",
        ),
        (
            "下载内容不符",
            "{path}：收到内容的 {algorithm} 为 {got}，应为 {expected}；已丢弃。请重新下载。",
        ),
    ),
    "busy-locally": _spec(
        500,
        ("Already under way", "Another filestore command is at work on {path}."),
        ("正在进行中", "另一个 filestore 命令正在处理 {path}。"),
    ),
}


class FilestoreError(Exception):
    """An error with a stable code, members that fill its sentence, and maybe a wait.

    ``retry_after_s`` becomes ``Retry-After``. Members go into the problem document as they
    are, so they hold only what the caller may see.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, *, retry_after_s: int | None = None, **members: Json) -> None:
        super().__init__(members)
        self.retry_after_s = retry_after_s
        self.members = members

    @property
    def spec(self) -> ErrorSpec:
        return CATALOG[self.code]

    def sentence(self, language: Language = "en") -> str:
        """What happened, in ``language``; members that are missing show as ``?``."""
        return self.spec.detail[language].format_map(_Members(self.members))

    def __str__(self) -> str:
        return self.sentence()


class _Members(dict[str, Json]):
    def __missing__(self, key: str) -> str:
        return "?"


class BadHeader(FilestoreError):
    code = "bad-header"


class BadRequest(FilestoreError):
    code = "bad-request"


class BadName(FilestoreError):
    code = "bad-name"


class LengthMismatch(FilestoreError):
    code = "length-mismatch"


class Unauthenticated(FilestoreError):
    code = "unauthenticated"


class Forbidden(FilestoreError):
    code = "forbidden"


class FinalUpload(FilestoreError):
    code = "final-upload"


class NotFound(FilestoreError):
    code = "not-found"


class MethodNotAllowed(FilestoreError):
    code = "method-not-allowed"


class RequestTimeout(FilestoreError):
    code = "request-timeout"


class Conflict(FilestoreError):
    code = "conflict"


class Exists(FilestoreError):
    code = "exists"


class OverCommitted(FilestoreError):
    """A limit was raised beyond what the site may promise; nothing was changed."""

    code = "over-committed"


class LastAdmin(FilestoreError):
    """The act would lock everybody out of the administration; nothing was changed."""

    code = "last-admin"


class OffsetMismatch(FilestoreError):
    """``expected`` is the durable offset, so that a client can go on at once."""

    code = "offset-mismatch"


class MismatchingUploadOffset(FilestoreError):
    code = "mismatching-upload-offset"


class InconsistentUploadLength(FilestoreError):
    code = "inconsistent-upload-length"


class ContentMismatch(FilestoreError):
    code = "content-mismatch"


class WrongProtocol(FilestoreError):
    code = "wrong-protocol"


class UploadTakenOver(FilestoreError):
    """The fence: the upload's epoch is not mine any more, or it is no longer open."""

    code = "upload-taken-over"


class UploadGone(FilestoreError):
    code = "upload-gone"


class TailLost(FilestoreError):
    code = "tail-lost"


class PreconditionFailed(FilestoreError):
    code = "precondition-failed"


class TusVersion(FilestoreError):
    code = "tus-version"


class TooLarge(FilestoreError):
    code = "too-large"


class LengthExceeded(FilestoreError):
    code = "length-exceeded"


class QuotaExceeded(FilestoreError):
    """There is no room. ``free`` says how much there is, in the unit of ``needed``."""

    code = "quota-exceeded"


class FilesExceeded(QuotaExceeded):
    code = "files-exceeded"


class ShareExceeded(QuotaExceeded):
    code = "share-exceeded"


class UriTooLong(FilestoreError):
    code = "uri-too-long"


class BadMediaType(FilestoreError):
    code = "bad-media-type"


class CodedBody(FilestoreError):
    code = "coded-body"


class RangeNotSatisfiable(FilestoreError):
    code = "range-not-satisfiable"


class UnknownKind(FilestoreError):
    code = "unknown-kind"


class IdempotencyMismatch(FilestoreError):
    code = "idempotency-mismatch"


class DigestMismatch(FilestoreError):
    code = "digest-mismatch"


class Locked(FilestoreError):
    code = "locked"


class TooMany(FilestoreError):
    code = "too-many"


class HeaderTooLarge(FilestoreError):
    """``header`` is ``?`` where its name is not known, ``*`` for all of a request together."""

    code = "header-too-large"


class ChecksumMismatch(FilestoreError):
    code = "checksum-mismatch"


class Internal(FilestoreError):
    code = "internal"


class StoreError(FilestoreError):
    """Anything a block store can answer other than bytes."""


class BlockDamaged(StoreError):
    """Bytes are there and are not the right ones. Permanent until healed."""

    code = "block-damaged"


class BlockMissing(StoreError):
    """No object lies under the key. Permanent: a key is written at most once in its life."""

    code = "block-damaged"


class StoreUnavailable(StoreError):
    """The store did not answer, or said that it cannot now. Safe to retry."""

    code = "store-unavailable"


class StoreFull(StoreError):
    code = "store-full"


class DatabaseUnavailable(FilestoreError):
    code = "database-unavailable"


class Overloaded(FilestoreError):
    """The memory for transfers was used by others for too long. Safe to retry."""

    code = "overloaded"


class Verifying(FilestoreError):
    code = "verifying"


class NotReady(FilestoreError):
    code = "not-ready"


class Busy(FilestoreError):
    code = "busy"


class Stopping(FilestoreError):
    code = "stopping"


class BadSetting(FilestoreError):
    code = "bad-setting"


class BadSettings(BadSetting):
    """Several at once; ``errors`` has the members of each."""

    code = "bad-settings"


class CannotStart(FilestoreError):
    code = "cannot-start"


class ClientFailed(FilestoreError):
    code = "client"


class Unreachable(FilestoreError):
    """The client got no answer. Unless ``was_sent`` is False the outcome is unknown."""

    code = "unreachable"

    def __init__(
        self, *, was_sent: bool = True, retry_after_s: int | None = None, **members: Json
    ) -> None:
        super().__init__(retry_after_s=retry_after_s, **members)
        self.was_sent = was_sent


class ForeignAnswer(FilestoreError):
    code = "foreign-answer"


class LocalFile(FilestoreError):
    code = "local-file"


class SourceChanged(FilestoreError):
    code = "source-changed"


class TargetExists(FilestoreError):
    code = "target-exists"


class DownloadDamaged(FilestoreError):
    code = "download-damaged"


class BusyLocally(FilestoreError):
    code = "busy-locally"
