"""Models by hub id: pinned to a commit, and at hand."""

import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest

from fire_opd.checks import check_models
from fire_opd.errors import SpecError
from fire_opd.spec import RunSpec

COMMIT = "70d244cc86ccca08cf5af4e1e306ecf908b1ad5e"
SpecWith = Callable[..., RunSpec]


def refusal(spec: RunSpec) -> str:
    with pytest.raises(SpecError) as error:
        check_models(spec)
    assert "\n" not in str(error.value)
    return str(error.value)


def cached(good: Path, cache: Path, *without: str) -> None:
    """Put the good model into a Hub's cache, as `hf download` does."""
    snapshot = cache / "models--org--name" / "snapshots" / COMMIT
    (blobs := snapshot.parents[1] / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in good.iterdir():
        if file.name not in without:
            shutil.copy(file, blobs / file.name)
            (snapshot / file.name).symlink_to(Path("..", "..", "blobs", file.name))


def test_a_hub_id_needs_a_revision_or_a_directory(spec_with: SpecWith) -> None:
    message = refusal(spec_with("models/X"))
    assert message.startswith(f"student.path {Path.cwd()}/models/X: there is no such directory")
    assert "no hub id is pinned: for models/X of the Hub give its `revision`, a commit of 40 digits" in message


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/3", "70d244c", COMMIT.upper()])
def test_what_can_move_is_no_pin(revision: str, spec_with: SpecWith) -> None:
    assert f"revision '{revision}'" in refusal(spec_with("org/name", f"student.revision='{revision}'"))


def test_offline_and_not_in_the_cache(spec_with: SpecWith, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = refusal(spec_with("org/name", f"student.revision={COMMIT}"))
    assert f"at {COMMIT} is not in the Hub's cache while HF_HUB_OFFLINE is set" in message


def test_online_and_the_hub_does_not_answer(
    spec_with: SpecWith, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert f"the Hub does not have the hub id at {COMMIT}: " in refusal(
        spec_with("org/name", f"student.revision={COMMIT}")
    )


def test_a_cached_model_is_checked_as_a_directory_is(
    good: Path, spec_with: SpecWith, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cached(good, tmp_path)
    spec = spec_with("org/name", f"student.revision={COMMIT}")
    assert check_models(spec) == []
    snapshot = tmp_path / "models--org--name" / "snapshots" / COMMIT
    (snapshot / "model.safetensors").resolve().write_bytes(b"")
    assert refusal(spec) == "student.path org/name: model.safetensors: is empty; download it again"


def test_a_cached_config_without_weights(
    good: Path, spec_with: SpecWith, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    cached(good, tmp_path, "model.safetensors")
    spec = spec_with("org/name", f"student.revision={COMMIT}")
    assert "its weights are not in the Hub's cache while HF_HUB_OFFLINE is set" in refusal(spec)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    (note,) = check_models(spec)
    assert "checked when they are loaded" in note
