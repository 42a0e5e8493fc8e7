"""The cutter: equal cuts however the bytes come, bounded memory, nothing lost."""

import random
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filestore_chunker import Cut, Cutter, Params

SMALL = Params(min_size=64, avg_size=256, max_size=1024, level=2)
KIB = 1024


def noise(size: int, *, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def cut_whole(data: bytes, params: Params) -> list[tuple[int, bytes]]:
    chunks = params.scanner().cut_buf(memoryview(data))
    return [(chunk.offset, bytes(chunk.data)) for chunk in chunks]


def plain(cuts: list[Cut]) -> list[tuple[int, bytes]]:
    return [(cut.offset, bytes(cut.data)) for cut in cuts]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Random bytes with runs of one value, which have no cut points, in between."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    parts = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 5000)), max_size=5))
    return b"".join(rng.randbytes(n) if mixed else b"\0" * n for mixed, n in parts)


params_sets = st.sampled_from(
    [
        SMALL,
        Params(64, 256, 1024, level=0),
        Params(128, 512, 2048, level=3),
        Params(256, 256, 1024, level=1),
        Params(1024, 1024, 1024, level=2),
    ]
)


@given(data=streams(), params=params_sets, seed=st.integers(0, 2**32), most=st.integers(1, 6000))
def test_any_split_of_the_feeding_gives_the_cuts_of_the_whole(
    data: bytes, params: Params, seed: int, most: int
) -> None:
    rng = random.Random(seed)
    cutter = Cutter(params)
    cuts: list[Cut] = []
    at = 0
    while at < len(data):
        step = rng.randint(0, most)
        cuts += cutter.feed(data[at : at + step])
        at += step
        if rng.random() < 0.1:
            found, rest = cutter.take_pending()
            cuts += found
            assert rest == data[cutter.pending_offset : at] == cutter.pending
        assert cutter.pending_size < params.max_size
    cuts += cutter.finish()

    assert plain(cuts) == cut_whole(data, params)
    assert b"".join(bytes(cut.data) for cut in cuts) == data
    assert all(cut.size <= params.max_size for cut in cuts)
    assert all(cut.size >= params.min_size for cut in cuts[:-1])


@given(data=streams(), at=st.integers(0, 20_000))
def test_a_second_cutter_goes_on_from_what_the_first_held_back(data: bytes, at: int) -> None:
    first = Cutter(SMALL)
    cuts = first.feed(data[:at])
    found, rest = first.take_pending()
    second = Cutter(SMALL, offset=first.pending_offset)
    cuts += found + second.feed(rest) + second.feed(data[at:]) + second.finish()

    assert plain(cuts) == cut_whole(data, SMALL)


def test_single_bytes_are_cut_like_the_whole() -> None:
    data = noise(20 * KIB)
    cutter = Cutter(SMALL)
    cuts = [cut for at in range(len(data)) for cut in cutter.feed(data[at : at + 1])]

    assert plain(cuts + cutter.finish()) == cut_whole(data, SMALL)


def test_an_empty_stream_has_no_cuts() -> None:
    cutter = Cutter(SMALL)

    assert cutter.feed(b"") == []
    assert cutter.take_pending() == ([], b"")
    assert cutter.finish() == []
    assert repr(cutter) == "<Cutter at 0, 0 bytes pending>"


def test_offsets_go_on_from_where_the_stream_begins() -> None:
    cutter = Cutter(SMALL, offset=10_000)
    cuts = cutter.feed(noise(3000)) + cutter.finish()

    assert cuts[0].offset == 10_000
    assert [cut.offset for cut in cuts[1:]] == [cut.end for cut in cuts[:-1]]
    assert cuts[-1].end == 13_000 == cutter.pending_offset


def test_blocks_within_a_fed_buffer_are_views_of_it() -> None:
    buffer = bytearray(noise(16 * KIB))
    cuts = Cutter(SMALL).feed(buffer)

    assert len(cuts) > 10
    assert all(cut.data.obj is buffer for cut in cuts)


def test_after_a_block_that_spans_two_buffers_the_rest_is_cut_in_place() -> None:
    first, second = noise(200), bytearray(noise(16 * KIB, seed=2))
    cutter = Cutter(SMALL)
    assert cutter.feed(first) == []
    spanning, *rest = cutter.feed(second)

    assert spanning.offset == 0 and spanning.end > 200
    assert all(cut.data.obj is second for cut in rest)


def test_a_remainder_does_not_keep_the_fed_buffer_alive() -> None:
    class Buffer(bytearray):
        pass

    buffer = Buffer(noise(64 * KIB))
    gone = weakref.ref(buffer)
    cutter = Cutter(SMALL)
    cuts = cutter.feed(buffer)
    assert cutter.pending_size > 0
    del buffer
    assert gone() is not None, "the cuts are views of the buffer"
    cuts.clear()

    assert gone() is None


def test_a_fed_buffer_may_be_used_again_once_its_cuts_are_let_go() -> None:
    data = noise(4 * KIB)
    buffer = bytearray(data)
    cutter = Cutter(SMALL)
    cuts = plain(cutter.feed(buffer))
    buffer[:] = bytes(len(buffer))

    assert cuts + plain(cutter.finish()) == cut_whole(data, SMALL)


def test_small_pieces_do_not_make_the_scanner_read_everything_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bytes(64 * KIB)  # no cut points: the worst case, each block is as large as allowed
    params = Params(64, 256, 16 * KIB)
    scanned = 0
    plain_scan = Cutter._scan

    def counted(self: Cutter, view: memoryview) -> object:
        nonlocal scanned
        scanned += len(view)
        return plain_scan(self, view)

    monkeypatch.setattr(Cutter, "_scan", counted)
    cutter = Cutter(params)
    for at in range(0, len(data), 16):
        cutter.feed(data[at : at + 16])

    assert cutter.pending_offset == len(data)
    assert scanned <= 2 * len(data)
