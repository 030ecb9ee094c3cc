"""Messages out of ZeroMQ's queues by machine code, beside what pyzmq makes of the same messages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_monitor.sources.gathering import COLUMNS, FRAMES, TURN, Gatherer

SIZES = st.one_of(st.integers(0, 40), st.sampled_from([0, 29, 30, 255, 256, 70_000, 200_000]))
COUNTS = st.one_of(st.integers(1, 6), st.sampled_from([FRAMES + TURN - 1, FRAMES + TURN, FRAMES + TURN + 1, 200]))


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """A socket that sends and one that receives, without a limit to the queue between them."""
    context = zmq.Context()
    sends, receives = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    for socket in (sends, receives):
        socket.set_hwm(0)
    receives.bind("inproc://gathering")
    sends.connect("inproc://gathering")
    yield sends, receives
    context.destroy(linger=0)


def taken(gatherer: Gatherer, socket: zmq.Socket[bytes], most: int, size: int) -> list[tuple[list[bytes], int]]:
    """All messages that wait, as the frames that count and how many there were beyond them, in as many goes as it takes."""
    found: list[tuple[list[bytes], int]] = []
    skipping = False
    while True:
        rows, looked, skipping = gatherer.take(socket.underlying, most, size, skipping=skipping)
        if not looked:
            return found
        assert len(rows) <= min(most, TURN) and all(len(row) == COLUMNS for row in rows)
        for frames, extra, *places in rows:
            parts = [gatherer.view[a : a + n].tobytes() for a, n in zip(places[::2], places[1::2], strict=True)]
            found.append((parts[:frames], extra))


@settings(max_examples=60)
@given(
    messages=st.lists(st.tuples(COUNTS, st.lists(SIZES, min_size=1, max_size=5)), max_size=80),
    most=st.integers(1, 200),
    size=st.sampled_from([0, 1000, 1 << 20]),
)
def test_messages_come_as_they_were_sent(
    pair: tuple[zmq.Socket[bytes], zmq.Socket[bytes]],
    messages: list[tuple[int, list[int]]],
    most: int,
    size: int,
) -> None:
    """Each message comes whole, in order, with its first four frames; of very many frames some are counted, the rest skipped."""
    sends, receives = pair
    sent = []
    for number, (count, sizes) in enumerate(messages):
        frames = [bytes([number % 256, frame % 256]) * sizes[frame % len(sizes)] for frame in range(count)]
        sends.send_multipart(frames)
        sent.append((frames[:FRAMES], min(max(count - FRAMES, 0), TURN)))
    gatherer = Gatherer()
    assert taken(gatherer, receives, most, size) == sent
    gatherer.close()
