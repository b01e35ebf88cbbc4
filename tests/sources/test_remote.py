"""Shards behind a network are the same data as on the disk, whatever the network does, and each is fetched once."""

from __future__ import annotations

import io
import multiprocessing
import shlex
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from open_ldm.cli.main import main
from open_ldm.commands.data_index import index_data
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.files import temporary_files
from open_ldm.data.health import Health
from open_ldm.data.order import ShuffledOrder
from open_ldm.data.sample import BadPicture, BadSample
from open_ldm.data.transforms import TransformConfig
from open_ldm.data.windowed_order import WindowedOrder
from open_ldm.sources import network
from open_ldm.sources.loader import read_batches
from open_ldm.sources.network import NetworkError
from open_ldm.sources.shards import ShardsConfig, ShardsSource
from open_ldm.sources.storage import CANNOT_FETCH, RemoteFiles
from tests.sources.plain_web import web_address

SHARDS, COUNT = 4, 6
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards of six pictures, with classes, captions, sidecars and a table."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("made")
    for number in range(SHARDS):
        with tarfile.open(folder / f"t-{number}.tar", "w") as archive:
            for key in range(COUNT):
                stream = io.BytesIO()
                Image.fromarray(np.full((8, 8, 3), 40 * number + key, dtype=np.uint8)).save(stream, "PNG")
                for name, content in (("png", stream.getvalue()), ("cls", b"%d" % (key % 2)), ("txt", b"k%d" % key)):
                    info = tarfile.TarInfo(f"{number}{key}.{name}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    (folder / "classes.json").write_text('["even", "odd"]')
    assert index_data(ShardsConfig(path=str(folder)), silent=True).table is not None
    return folder


@pytest.fixture
def served(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from remote_server import serving

    monkeypatch.setattr(network, "_FIRST_PAUSE_SECONDS", 0.001)
    with serving(made) as server:
        server.url = web_address(server.url, monkeypatch)
        yield server


@pytest.fixture
def opened(served: Any, tmp_path: Path) -> Callable[..., ShardsSource]:
    def open_it(path: str = "", **remote: Any) -> ShardsSource:
        given = {"folder": tmp_path / "kept", "tries": 20, "timeout_seconds": 20, **remote}
        return ShardsConfig.model_validate({"path": served.url + path, "remote": given}).open()

    return open_it


def fetches(served: Any) -> dict[str, int]:
    """How often each shard was asked for, in any way."""
    found = dict.fromkeys((f"t-{number}.tar" for number in range(SHARDS)), 0)
    for (_, name), count in served.asked.items():
        if name in found:
            found[name] += count
    return found


def contents(source: ShardsSource) -> list[tuple[str, int | None, tuple[str, ...], bytes]]:
    samples = [source[index] for index in range(len(source))]
    return [(sample.id, sample.label, sample.captions, sample.pixels.tobytes()) for sample in samples]


@pytest.mark.parametrize("whole", [False, True])
def test_no_wrong_byte_comes_through_a_bad_network(
    made: Path, served: Any, opened: Callable[..., ShardsSource], whole: bool
) -> None:
    served.fault_every, served.wrong_bytes = 4, True
    local, remote = ShardsConfig(path=str(made)).open(), opened()
    if whole:
        remote.expect_streams(2)
    assert contents(remote) == contents(local)
    assert (remote.fingerprint, remote.class_names) == (local.fingerprint, local.class_names)
    assert served.faults >= 3 and isinstance(remote._storage, RemoteFiles) and remote._storage.network.faults >= 2


def test_an_index_that_is_made_anew_here_is_not_replaced_by_an_older_one_from_there(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from remote_server import serving

    web = shutil.copytree(made, tmp_path / "web")
    with serving(web) as server:
        url = web_address(server.url, monkeypatch)
        config = ShardsConfig.model_validate({"path": url, "remote": {"folder": tmp_path / "kept"}})
        assert len(contents(config.open())) == SHARDS * COUNT
        shutil.copyfile(web / "t-1.tar", web / "t-0.tar")  # a new shard, whose index is not made there
        with tarfile.open(web / "t-0.tar", "a") as archive:
            archive.addfile(tarfile.TarInfo("longer" * 20))
        assert index_data(config, silent=True).written == 1
        found = contents(config.open())
    assert len(found) == SHARDS * COUNT and [one[3] for one in found[:COUNT]] == [one[3] for one in found[COUNT : 2 * COUNT]]


def _read_all(source: ShardsSource, answers: Any) -> None:
    answers.put(contents(source))


def test_processes_of_a_machine_fetch_each_shard_once(made: Path, served: Any, opened: Callable[..., ShardsSource]) -> None:
    source = opened()
    source.expect_streams(2)
    served.asked.clear()
    source[0]  # a session of this process, which others must not use
    served.latency_seconds = 0.02
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    readers = [context.Process(target=_read_all, args=(source, answers), daemon=True) for _ in range(3)]
    for reader in readers:
        reader.start()
    wanted = contents(ShardsConfig(path=str(made)).open())
    assert all(answers.get(timeout=60) == wanted for _ in readers)
    for reader in readers:
        reader.join()
    assert set(fetches(served).values()) == {1}


def test_windowed_order_fetches_shards_and_global_order_parts(served: Any, opened: Callable[..., ShardsSource]) -> None:
    samples = SHARDS * COUNT
    orders = (WindowedOrder(0, np.full(SHARDS, COUNT, dtype=np.int64), 2, 4), ShuffledOrder(0, samples))
    for order, asked in zip(orders, (1, COUNT), strict=True):
        source = opened()
        served.asked.clear()
        batches = read_batches(
            source,
            TransformConfig.model_validate({"size_px": 8}),
            seed=0,
            position_ranges=[range(start, start + 8) for start in range(0, samples, 8)],
            workers=0,
            order=order,
        )
        assert sorted(index for batch in batches for index in batch.indices) == list(range(samples))
        assert set(fetches(served).values()) == {asked}


def test_what_is_kept_has_a_bound(served: Any, made: Path, opened: Callable[..., ShardsSource]) -> None:
    size = (made / "t-0.tar").stat().st_size
    source = opened(gigabytes=2.5 * size / 1e9)
    source.expect_streams(1)
    contents(source)
    kept = sorted(path.name for path in source._storage.folder.glob("*.tar"))
    assert kept == ["t-2.tar", "t-3.tar"], "the ones used longest ago went first"
    assert contents(source) == contents(ShardsConfig(path=str(made)).open())


def _fetch_all(source: ShardsSource, first: int, held: Any) -> None:
    """Fetch every shard, and tell the most bytes that lay there when a part of one was asked for, or had come whole."""
    storage = source._storage
    assert isinstance(storage, RemoteFiles)
    read, most = storage.network.read, [0]

    def look() -> None:
        files = [*storage._base.glob("*/*.tar"), *(one for each in storage._base.iterdir() for one in temporary_files(each))]
        with suppress(FileNotFoundError):
            most[0] = max(most[0], sum(file.stat().st_size for file in files))

    def watched(*given: Any) -> bytes:
        look()
        return read(*given)

    storage.network.read = watched  # type: ignore[method-assign]
    for number in range(2 * SHARDS):
        storage.fetch(source._shards[(first + number) % SHARDS])
        look()
    held.put(most[0])


def test_the_bound_holds_over_processes(served: Any, made: Path, opened: Callable[..., ShardsSource]) -> None:
    size = (made / "t-0.tar").stat().st_size
    source = opened(gigabytes=1.5 * size / 1e9)
    served.latency_seconds = 0.01
    context = multiprocessing.get_context("fork")
    held = context.Queue()
    fetching = [context.Process(target=_fetch_all, args=(source, first, held), daemon=True) for first in range(3)]
    for process in fetching:
        process.start()
    assert [held.get(timeout=60) for _ in fetching] == [size] * 3
    for process in fetching:
        process.join()
    with pytest.raises(NetworkError, match=r"larger remote\.gigabytes"):
        opened(gigabytes=0.5 * size / 1e9)._storage.fetch(next(shard for shard in source._shards if not shard.is_file()))


def test_a_network_that_stays_away_is_counted_as_bad_samples_are(served: Any, opened: Callable[..., ShardsSource]) -> None:
    source = opened(tries=2)
    served.fault_every = 1
    with pytest.raises(BadPicture) as caught:
        source[0]
    assert caught.value.reason == CANNOT_FETCH and caught.value.of_disk
    assert "t-0.tar" in caught.value.detail and "127.0.0.1" in caught.value.detail
    health = Health(1000)
    health.add([BadSample(source.sample_id(0), caught.value.reason, caught.value.detail)])
    assert "cannot be fetched 1" in health.sentence()
    (source._storage.folder / "t-0.index.safetensors").unlink()
    source._samples._sidecars.clear()
    with pytest.raises(DataError, match=r"t-0\.index"):
        source.label_of(0)


def test_a_silent_server_is_given_up(served: Any, opened: Callable[..., ShardsSource]) -> None:
    source = opened(tries=1, timeout_seconds=0.2)
    served.latency_seconds = 1.0
    with pytest.raises(BadPicture, match=r"no answer within 0\.2 s"):
        source[0]


def test_a_file_that_is_gone_is_missing(served: Any, opened: Callable[..., ShardsSource], made: Path, tmp_path: Path) -> None:
    source = opened()
    source.label_of(0)
    source._shards[0] = source._shards[0].with_name("gone.tar")
    for whole in (False, True):
        if whole:
            source.expect_streams(1)
        with pytest.raises(BadPicture, match="missing file"):
            source[0]


def test_names_of_a_listing_that_mean_another_folder_are_left_out() -> None:
    files = fsspec.filesystem("memory")
    for name in ("a.tar", "..\\b.tar", "c:d.tar"):
        files.pipe_file(f"/listed/{name}", b"x")
    assert network.Network("memory://listed", network.RemoteConfig()).names() == {"a.tar": 1}


@pytest.mark.parametrize(
    "path", ["https://me:secret@example.org/a", "https://example.org/a?token=secret", "s3://me:secret@bucket/a"]
)
def test_no_secret_goes_into_a_recipe(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ShardsConfig(path=path).open()
    assert "secret" not in str(caught.value) and "netrc" in str(caught.value)


def test_other_addresses_and_settings_without_effect_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="s3://"):
        ShardsConfig(path="ftp://example.org/a").open()
    with pytest.raises(ValueError, match="remote has no effect"):
        ShardsConfig.model_validate({"path": str(tmp_path), "remote": {"tries": 3}})
    assert "remote" not in ShardsConfig(path="s3://a/b").model_dump()


def test_shards_without_a_table_are_indexed_through_the_network(
    made: Path, served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for number in range(2):
        memory.pipe_file(f"/pictures/t-{number}.tar", (made / f"t-{number}.tar").read_bytes())
    path, folder = "memory://pictures/t-{0..1}.tar", tmp_path / "kept"
    config = ShardsConfig.model_validate({"path": path, "columns": {"text": "caption"}, "remote": {"folder": folder}})
    memory.pipe_file("/pictures/other.tar", (made / "t-2.tar").read_bytes())  # not of the pattern
    with pytest.raises(DataError) as refused:
        config.open()
    command = refused.value.fix.partition(", which")[0]
    assert f"ldm data index '{path}' columns.text=caption " in refused.value.one_line()
    with pytest.raises(SystemExit) as ended:
        main([*shlex.split(command)[1:], "--json"])
    assert not ended.value.code
    local = ShardsConfig(path=str(made)).open()
    assert [one[3] for one in contents(config.open())] == [one[3] for one in contents(local)[: 2 * COUNT]]
    assert not list(made.glob(".*")), "nothing was written elsewhere"
    memory.rm("/pictures", recursive=True)
    capsys.readouterr()
