"""How fast one upload is, beside what one would use without us, and how much memory it takes.

For each store and round, with new bytes each time: a plain client writes them to the same disk
or S3 server, then they are uploaded to us over tus as new data, then again as known data. The
order turns with the rounds. Only ratios within a round are compared; a median is over rounds.

    python bench/ingest.py --size 512MiB --rounds 5 --memory-size 6GiB
"""

import argparse
import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import clients  # noqa: E402
from tests.services.s3 import S3Service, minio, seaweedfs  # noqa: E402
from tests.services.server import Server  # noqa: E402

MIB = 1024 * 1024
UNITS = {"MiB": MIB, "GiB": 1024 * MIB}
GROUP = "bench"
STORES = ("disk", "seaweedfs", "minio")


@dataclass
class Rates:
    """MB/s of every round: the plain client's, and ours with new and with known data."""

    store: str
    plain: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    peak_memory: int = 0

    def report(self) -> dict[str, Any]:
        """Medians of the ratios, and of the rates as an aside."""
        return {
            "store": self.store,
            "new_to_plain": _ratio(self.new, self.plain),
            "known_to_plain": _ratio(self.known, self.plain),
            "plain_mb_s": round(statistics.median(self.plain)),
            "new_mb_s": round(statistics.median(self.new)),
            "known_mb_s": round(statistics.median(self.known)),
            "rounds": [
                [round(rate) for rate in rates]
                for rates in zip(self.plain, self.new, self.known, strict=True)
            ],
            "server_peak_mib": self.peak_memory // MIB,
        }


@dataclass(frozen=True)
class Bench:
    """One store under test: our server on it, and the plain client's way to it."""

    server: Server
    plain: tuple[str, list[str]]
    bytes_file: Path

    def run(self, rates: Rates, number: int, seed: str, size: int) -> None:
        """One round. The order turns; known data must come after new."""
        with self.bytes_file.open("wb") as file:
            file.writelines(clients.stream(f"{seed} {rates.store} {number}", size))
        source = str(self.bytes_file)

        def plain() -> None:
            command, arguments = self.plain
            rates.plain.append(size / _timed(command, *arguments, source) / 1e6)

        def ours() -> None:
            for kept in (rates.new, rates.known):
                name = base64.b64encode(f"{number}-{kept is rates.new}".encode()).decode()
                arguments = (self.server.url, self.server.admin_token, GROUP, name, source)
                kept.append(size / _timed("tus_file", *arguments) / 1e6)

        turns: list[Callable[[], None]] = [plain, ours]
        for turn in turns if number % 2 else reversed(turns):
            _settle()
            turn()


def measure(store: str, *, size: int, rounds: int, seed: str) -> Rates:
    """All rounds on one store. A first, short one that does not count warms everything up."""
    rates = Rates(store)
    with _bench(store) as bench:
        bench.run(Rates(store), -1, seed, 32 * MIB)
        for number in range(rounds):
            bench.run(rates, number, seed, size)
        rates.peak_memory = bench.server.peak_memory
    return rates


def measure_memory(size: int, seed: str) -> dict[str, int]:
    """Peak memory of a server that takes one large upload to a disk."""
    with _folder() as folder, _running(Server(folder / "data", settings=_SETTINGS)) as server:
        before = server.peak_memory
        name = base64.b64encode(b"large").decode()
        arguments = (server.url, server.admin_token, GROUP, name, seed, size)
        seconds = _timed("tus_stream", *arguments)
        return {
            "upload_mib": size // MIB,
            "peak_mib": server.peak_memory // MIB,
            "before_mib": before // MIB,
            "mb_s": round(size / seconds / 1e6),
        }


_SETTINGS = {"log.level": "warning"}


@contextmanager
def _bench(store: str) -> Iterator[Bench]:
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        if store == "disk":
            server = Server(folder / "data", settings=_SETTINGS)
            plain = ("write_file", [str(folder)])
        else:
            service = stack.enter_context({"seaweedfs": seaweedfs, "minio": minio}[store]())
            server = _s3_server(folder, service)
            plain = ("put_object", [service.endpoint, service.access_key, service.secret_key])
            plain[1].append("rival")
        stack.enter_context(_running(server))
        in_memory = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else folder
        bytes_file = in_memory / f"filestore-bench-{os.getpid()}"
        stack.callback(bytes_file.unlink, missing_ok=True)
        yield Bench(server, plain, bytes_file)


def _s3_server(folder: Path, service: S3Service) -> Server:
    keys = {
        "FILESTORE_S3_ACCESS_KEY": service.access_key,
        "FILESTORE_S3_SECRET_KEY": service.secret_key,
    }
    blocks = service.bucket_url("filestore")
    return Server(folder / "data", blocks=blocks, settings=_SETTINGS, environment=keys)


@contextmanager
def _running(server: Server) -> Iterator[Server]:
    """Runs a server that has a group without a limit."""
    try:
        server.start()
        request = urllib.request.Request(
            f"{server.url}/api/v1/groups",
            data=json.dumps({"name": GROUP, "quota_bytes": 2**50}).encode(),
            headers={
                "Authorization": f"Bearer {server.admin_token}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request) as answer:
            answer.read()
        yield server
    finally:
        server.close()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="filestore-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _timed(command: str, *arguments: object) -> float:
    """Runs a client in a process of its own; the seconds that it measured."""
    program = [sys.executable, str(ROOT / "bench" / "clients.py")]
    done = subprocess.run(
        [*program, json.dumps([command, arguments])], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stderr}")
    return float(done.stdout)


def _settle() -> None:
    """Nobody pays for what another one left to be written."""
    os.sync()


def _ratio(ours: list[float], plain: list[float]) -> float:
    ratios = [mine / other for mine, other in zip(ours, plain, strict=True)]
    return round(statistics.median(ratios), 2)


def _size(text: str) -> int:
    for unit, factor in UNITS.items():
        if text.endswith(unit) and text.removesuffix(unit).isdecimal():
            return int(text.removesuffix(unit)) * factor
    raise argparse.ArgumentTypeError(f"{text!r} is no size such as 512MiB")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", type=_size, default=512 * MIB, help="of one upload: 512MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--memory-size", type=_size, default=6 * UNITS["GiB"], help="6GiB; 0MiB: no"
    )
    parser.add_argument("--stores", default=",".join(STORES), help=f"some of {','.join(STORES)}")
    parser.add_argument("--seed", default=os.urandom(4).hex(), help="of all bytes; printed")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args()


def _show(result: dict[str, Any]) -> None:
    print(f"seed {result['seed']}, {result['size_mib']} MiB a round, load {result['load']}")
    print("store       new/plain  known/plain   (MB/s: plain, new, known)   server's peak")
    for row in result["stores"]:
        rates = f"{row['plain_mb_s']:6} {row['new_mb_s']:6} {row['known_mb_s']:6}"
        ratios = f"{row['new_to_plain']:9.2f}  {row['known_to_plain']:11.2f}"
        print(f"{row['store']:10}  {ratios}   {rates:28} {row['server_peak_mib']:5} MiB")
    if memory := result.get("memory"):
        print(
            f"one upload of {memory['upload_mib']} MiB: peak {memory['peak_mib']} MiB"
            f" ({memory['before_mib']} MiB before), {memory['mb_s']} MB/s"
        )


def main() -> None:
    wish = _arguments()
    result: dict[str, Any] = {
        "seed": wish.seed,
        "size_mib": wish.size // MIB,
        "load": round(os.getloadavg()[0], 1),
        "stores": [
            measure(store, size=wish.size, rounds=wish.rounds, seed=wish.seed).report()
            for store in filter(None, wish.stores.split(","))
        ],
    }
    if wish.memory_size:
        result["memory"] = measure_memory(wish.memory_size, wish.seed)
    if wish.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)


if __name__ == "__main__":
    main()
