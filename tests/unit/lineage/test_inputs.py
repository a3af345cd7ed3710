"""Prompt sets of any kind go through the store and come back with the digest that they were recorded with."""

from pathlib import Path

import pytest

from fire_opd.errors import PromptError
from fire_opd.lineage.inputs import fetch_input, input_digests, keep_inputs, link_inputs, publish_inputs
from fire_opd.prompts import set_digest
from fire_opd.storage import open_store
from tests.conftest import Assets
from tests.unit.prompts.sets import CONTAINERS, read

ROWS = [{"prompt": f"{n}?", "answer": str(n)} for n in range(6)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    (folder / "p-1.jsonl").write_bytes(CONTAINERS["json lines"](ROWS[:3]))
    (folder / "p-2.PARQUET").write_bytes(CONTAINERS["parquet"](ROWS[3:]))
    return folder


@pytest.mark.parametrize("path", ["shards", "shards/p-*", "shards/p-1.jsonl", "shards/*.PARQUET"])
def test_a_set_is_linked_published_and_fetched(assets: Assets, tmp_path: Path, shards: Path, path: str) -> None:
    given, workspace = f"{tmp_path}/{path}", tmp_path / "workspace"
    spec, store = assets.spec(f"prompts.path={given}"), open_store(str(tmp_path / "store"))
    for _ in range(2):  # a workspace is opened again
        linked = workspace / link_inputs(spec, workspace).prompts.path
    wanted = [p.answer for p in read(given)]
    digests = input_digests(spec, tmp_path / "cache.json")
    assert digests["prompts.path"] == set_digest(given) == set_digest(str(linked))
    assert [p.answer for p in read(linked)] == wanted
    publish_inputs(store, spec, digests)
    back = fetch_input(store, digests["prompts.path"], tmp_path / "fetched")
    assert set_digest(str(back)) == digests["prompts.path"]
    assert [p.answer for p in read(back)] == wanted
    again = spec.model_copy(update={"prompts": spec.prompts.model_copy(update={"path": str(back)})})
    relinked = link_inputs(again, workspace).prompts.path
    assert sorted(file.name for file in (workspace / relinked).glob("*")) == sorted(f.name for f in linked.glob("*"))


def test_links_follow_the_set(assets: Assets, tmp_path: Path, shards: Path) -> None:
    spec = assets.spec(f"prompts.path={shards}")
    linked = tmp_path / "workspace" / link_inputs(spec, tmp_path / "workspace").prompts.path
    (shards / "p-1.jsonl").rename(shards / "p-3.jsonl")
    link_inputs(spec, tmp_path / "workspace")
    assert [p.answer for p in read(linked)] == list("345012")


def test_a_set_that_went_away_is_named(assets: Assets, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"gone\.jsonl: no such file or folder"):
        link_inputs(assets.spec(f"prompts.path={tmp_path}/gone.jsonl"), tmp_path / "workspace")


def test_what_a_collection_took_comes_back_where_it_is_as_it_was(assets: Assets, tmp_path: Path, shards: Path) -> None:
    """A run that went on after weeks recorded its outputs again, and its inputs were missing for good."""
    store, cache = open_store(str(tmp_path / "store")), tmp_path / "digests.json"
    spec = assets.spec(f"prompts.path={shards}")
    digests = input_digests(spec, cache)
    publish_inputs(store, spec, digests)
    whole = {item.key for item in store.items("inputs")}
    for item in store.items("inputs"):
        store.delete(item.key)
    keep_inputs(store, spec, digests, cache)
    assert {item.key for item in store.items("inputs")} == whole
    changed = digests["prompts.path"]
    for item in store.items(f"inputs/{changed}"):
        store.delete(item.key)
    with next(shards.iterdir()).open("a") as file:
        file.write('{"prompt": "more", "domain": "m"}\n')
    keep_inputs(store, spec, digests, cache)
    assert not store.items(f"inputs/{changed}"), "under a digest there is nothing else"
