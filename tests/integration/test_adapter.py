"""A student with a LoRA adapter, end to end: rounds of kilobytes, killed and resumed, merged into a model."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from fire_opd.errors import ArtifactError
from fire_opd.head.probes import read_probes
from fire_opd.storage import Run, read_manifest, retired_manifest, verify_files
from fire_opd.training import whole_model
from tests.conftest import Assets, begin, digests, drive

pytestmark = pytest.mark.long

ADAPTER = ("student.adapter.rank=4", "method.name=exopd", "filter.percentile=0", "weights.alpha=0", "weights.beta=0")


@pytest.fixture(scope="module")
def finished(assets: Assets, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run.create(tmp_path_factory.mktemp("adapter") / "run", assets.spec(*ADAPTER))
    result = drive(run.folder, prefect_api)
    assert result.returncode == 0, result.stderr
    return run


def size(run: Run, directory: str) -> int:
    manifest = read_manifest(run.path(directory))
    assert manifest is not None
    return sum(entry.size for entry in manifest.files.values())


def test_a_round_leaves_the_adapter_and_its_base(finished: Run, undisturbed: Run) -> None:
    manifest = read_manifest(finished.path("rounds/2/checkpoint"))
    assert manifest is not None
    assert sorted(manifest.files) == ["adapter_config.json", "adapter_model.safetensors", "base.json", "probes.json"]
    assert size(finished, "rounds/2/checkpoint") < size(undisturbed, "rounds/2/checkpoint") / 4
    assert size(finished, "rounds/2/trainer") < size(undisturbed, "rounds/2/trainer") / 4
    before, after = (read_probes(finished.path(f"rounds/{n}/checkpoint")) for n in (0, 2))
    assert before is not None
    assert after is not None
    assert before.logprobs != after.logprobs


def test_scorer_sampler_and_trainer_agree(finished: Run) -> None:
    for number in (1, 2):
        folders = [finished.path(f"rounds/{number}/{name}") for name in ("scores", "trainer")]
        scores, trained = (read_manifest(folder) or retired_manifest(folder) for folder in folders)
        assert scores is not None
        assert trained is not None
        assert scores.metrics["mismatch"] < 1e-5
        assert trained.metrics["first_ratio_error_max"] < 1e-5


def test_killed_anywhere_it_ends_the_same(finished: Run, prefect_api: str, tmp_path: Path) -> None:
    run = begin(tmp_path / "again", finished)
    faults = ("init.renamed", "train.tick@3", "train.renamed@3", "evaluate.done@2")
    failpoints = ",".join(f"{point}={tmp_path / point.partition('@')[0]}" for point in faults)
    result = drive(run.folder, prefect_api, FIRE_OPD_FAILPOINT=failpoints)
    if result.returncode:  # a task has three attempts
        result = drive(run.folder, prefect_api, FIRE_OPD_FAILPOINT=failpoints)
    assert result.returncode == 0, result.stderr
    assert all((tmp_path / point.partition("@")[0]).exists() for point in faults)
    assert digests(run.folder) == digests(finished.folder)


def test_the_merged_student_is_a_model_by_itself(finished: Run, undisturbed: Run, tmp_path: Path) -> None:
    run = begin(tmp_path / "copy", finished)
    run.path("rounds").symlink_to(finished.path("rounds"))
    merged = whole_model(run, 2)
    assert merged == run.path("merged/2")
    assert not verify_files(merged)
    assert whole_model(run, 2) == merged  # made once
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    probes = read_probes(run.path("rounds/2/checkpoint"))
    assert probes is not None
    tokens = torch.tensor(probes.tokens)
    with torch.no_grad():
        logp = model(tokens).logits[:, :-1, :64].log_softmax(-1)
    found = logp.gather(2, tokens[:, 1:, None])[:, :, 0]
    torch.testing.assert_close(found, torch.tensor(probes.logprobs), rtol=0, atol=1e-5)
    assert whole_model(undisturbed, 2) == undisturbed.path("rounds/2/checkpoint")


def test_another_base_is_refused(finished: Run, assets: Assets, tmp_path: Path) -> None:
    other = finished.spec.model_copy(
        update={"student": finished.spec.student.model_copy(update={"path": finished.spec.teachers["m"].path})}
    )
    run = Run.create(tmp_path / "other", other)
    run.path("rounds").symlink_to(finished.path("rounds"))
    with pytest.raises(ArtifactError, match="is an adapter for a student with digest"):
        whole_model(run, 2)
