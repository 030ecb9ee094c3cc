"""rosbag2: databases against SQLite itself, folders, and rows read past damage page by page."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
import zstandard
from fuzz_readers import read
from rosbags.highlevel import AnyReader
from synthetic_recordings import STORE, messages, write_bag2

from edge_monitor.core.messages import Channel
from edge_monitor.errors import DamagedInputError
from edge_replay import readers

SELECT = (
    "select name, timestamp, data from messages join topics on topics.id = topic_id order by timestamp, messages.id"
)


def by_sqlite(path: Path) -> list[tuple[str, int, bytes]]:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute(SELECT).fetchall()


def empty_bag(path: Path) -> sqlite3.Connection:
    """A database with the tables that recorders before message_definitions wrote."""
    database = sqlite3.connect(path)
    database.executescript(
        "create table topics(id integer primary key, name text not null, type text not null,"
        " serialization_format text not null, offered_qos_profiles text not null);"
        "create table messages(id integer primary key, topic_id integer not null, timestamp integer not null,"
        " data blob not null); create index timestamp_idx on messages (timestamp asc);"
        "insert into topics values (1, '/a', 'std_msgs/msg/String', 'cdr', ''), (2, '/b', 'x_msgs/msg/Own', 'cdr', '');"
    )
    return database


def test_a_database_equals_sqlite(tmp_path: Path) -> None:
    """Rows, those on overflow pages too, are the ones SQLite returns."""
    path = write_bag2(tmp_path / "bag")
    assert by_sqlite(path) == messages()
    assert read(path)[:2] == (messages(), [])


def test_real_recordings_equal_sqlite(data_dir: Path) -> None:
    """Topic, time and bytes of every row of every real database are those of SQLite, in order of time."""
    paths = sorted(data_dir.rglob("*.db3"))
    assert len(paths) >= 8
    for path in paths:
        with sqlite3.connect(f"file:{path}?immutable=1", uri=True) as database:
            expected = database.execute(SELECT).fetchall()
        assert read(path)[:2] == (expected, [])


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
def test_page_sizes_row_sizes_and_unordered_rows(tmp_path: Path, page_size: int) -> None:
    """Any page size, empty to large rows, times that run backwards for a while: as SQLite orders them."""
    database = empty_bag(tmp_path / "a")
    database.execute(f"pragma page_size = {page_size}")
    database.execute("vacuum")
    sizes = [0, 1, 30, 120, 440, 460, 500, 3000, 4055, 4061, 4062, 5000, 70_000]
    rows = [(1 + i % 2, 1000 + (i ^ 3), bytes([i % 251]) * sizes[i % len(sizes)]) for i in range(260)]
    database.executemany("insert into messages(topic_id, timestamp, data) values (?, ?, ?)", rows)
    database.commit()
    database.close()
    assert read(tmp_path / "a")[:2] == (by_sqlite(tmp_path / "a"), [])


def test_rows_that_are_only_in_the_write_ahead_log_are_read(tmp_path: Path) -> None:
    """A recorder that lost power in WAL mode leaves rows in the log beside the file: committed ones are delivered."""
    database = empty_bag(tmp_path / "live")
    database.execute("pragma journal_mode = wal")
    database.execute("pragma wal_autocheckpoint = 0")
    for i in range(50):
        database.execute("insert into messages values (null, 1, ?, ?)", (i, bytes(200)))
        database.commit()
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"live{suffix}", tmp_path / f"copy{suffix}")
    with (tmp_path / "copy-wal").open("ab") as log:
        log.write(bytes(3000))  # a frame that was being written
    database.close()
    assert read(tmp_path / "copy")[:2] == ([("/a", i, bytes(200)) for i in range(50)], [])


def test_definitions_come_from_the_bag_or_from_the_standard_types(tmp_path: Path) -> None:
    """A bag without definitions gets those of standard types; a type nobody knows is carried, undecodable."""
    empty_bag(tmp_path / "a").close()
    channels = [item for item in readers.open(tmp_path / "a") if isinstance(item, Channel)]
    assert [(c.topic, c.schema, c.definition) for c in channels] == [
        ("/a", "ros2msg", STORE.generate_msgdef("std_msgs/msg/String", ros_version=2)[0]),
        ("/b", "none", ""),
    ]


def test_compressed_messages_are_decompressed(tmp_path: Path) -> None:
    """rosbag2's compression of single messages (zstd) is undone."""
    database = empty_bag(tmp_path / "a")
    compressor = zstandard.ZstdCompressor()
    texts = [b"\x00\x01\x00\x00" + b"abc" * i for i in range(300)]
    rows = [(1, i, compressor.compress(text)) for i, text in enumerate(texts)]
    database.executemany("insert into messages(topic_id, timestamp, data) values (?, ?, ?)", rows)
    database.commit()
    database.close()
    assert read(tmp_path / "a")[0] == [("/a", i, text) for i, text in enumerate(texts)]


def test_a_cut_database_gives_every_row_before_the_cut(tmp_path: Path, data_dir: Path) -> None:
    """Cut to 60 %, where SQLite and rosbags give nothing: an exact prefix, longer than half, and the loss in numbers."""
    source = data_dir / "ugv_husky" / "derived_db3" / "husky_db3.db3"
    whole = read(source)[0]
    data = source.read_bytes()
    (tmp_path / "a").write_bytes(data[: len(data) * 6 // 10])
    delivered, damages, _ = read(tmp_path / "a")
    assert delivered == whole[: len(delivered)]
    assert len(delivered) > len(whole) // 2
    assert any("it was cut" in damage.what for damage in damages)


def test_a_lost_parent_page_loses_no_rows(tmp_path: Path) -> None:
    """Leaf pages that no interior page refers to any more are found by what they contain."""
    path = write_bag2(tmp_path / "bag")
    with sqlite3.connect(path) as database:
        root = database.execute("select rootpage from sqlite_master where name = 'messages'").fetchone()[0]
        size = database.execute("pragma page_size").fetchone()[0]
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(data)
    delivered, damages, _ = read(path)
    assert delivered == messages()
    assert damages


def test_a_time_that_the_index_contradicts_is_reported(tmp_path: Path) -> None:
    """A changed stamp in a row is told by the index over time, which repeats it."""
    path = write_bag2(tmp_path / "bag")
    t = messages()[200][1]
    data = path.read_bytes()
    at = data.rindex(t.to_bytes(8, "big")) if data.count(t.to_bytes(8, "big")) == 2 else -1
    assert at > 0
    for place in (data.index(t.to_bytes(8, "big")), at):  # in the row, in the index
        path.write_bytes(data[: place + 7] + bytes([data[place + 7] ^ 1]) + data[place + 8 :])
        assert any("contradict" in damage.what for damage in read(path)[1])


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_folder_is_one_recording(data_dir: Path, tmp_path: Path, storage: str) -> None:
    """A split bag gives the messages of all its files, in order, with and without metadata.yaml."""
    source = data_dir / "formats_rosbag2" / storage / "wbag"
    with AnyReader([source], default_typestore=STORE) as bag:
        expected = [(connection.topic, t, bytes(data)) for connection, t, data in bag.messages()]
    delivered, damages, _ = read(source)
    assert (sorted(delivered), damages) == (sorted(expected), [])
    assert [t for _, t, _ in delivered] == sorted(t for _, t, _ in delivered)
    assert len(readers.open(source).channels) == 0
    folder = tmp_path / "copy"
    shutil.copytree(source, folder)
    (folder / "metadata.yaml").unlink()
    assert read(folder)[:2] == (delivered, [])


def test_a_missing_file_of_a_split_bag_is_damage(data_dir: Path, tmp_path: Path) -> None:
    """The other files are read; what metadata.yaml names and is not there is reported, with the number of messages."""
    folder = tmp_path / "bag"
    shutil.copytree(data_dir / "formats_rosbag2" / "sqlite3" / "wbag", folder)
    folder.chmod(0o755)
    (folder / "wbag_2.db3").unlink()
    delivered, damages, _ = read(folder)
    assert len(delivered) == 6074 - 1240
    assert ["wbag_2.db3" in damages[0].what, damages[-1].lost_messages] == [True, 1240]


def test_unreadable_metadata_is_done_without(tmp_path: Path) -> None:
    """A metadata.yaml that is no YAML is reported; the files are read all the same."""
    write_bag2(tmp_path / "bag")
    (tmp_path / "bag" / "metadata.yaml").write_text("{ no: [yaml")
    delivered, damages, _ = read(tmp_path / "bag")
    assert (delivered, len(damages)) == (messages(), 1)


def test_another_database_is_refused(tmp_path: Path) -> None:
    """A SQLite file without rosbag2's tables is named as what it is."""
    with sqlite3.connect(tmp_path / "a") as database:
        database.execute("create table notes(text)")
    with pytest.raises(DamagedInputError, match="no table 'messages'"):
        list(readers.open(tmp_path / "a"))


def test_the_husky_is_the_same_in_three_formats(data_dir: Path) -> None:
    """The bag and its conversions give the same topics at the same times, in the same order; the CDR bytes agree, too."""
    husky = data_dir / "ugv_husky"
    bag = read(husky / "husky_test1.bag")[0]
    database = read(husky / "derived_db3" / "husky_db3.db3")[0]
    mcap = read(husky / "derived_mcap" / "husky_mcapz.mcap")[0]
    assert [message[:2] for message in bag] == [message[:2] for message in database]
    assert database == mcap
    assert len(bag) == 16806
