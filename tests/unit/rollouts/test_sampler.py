"""vLLM on CPU: the same tokens in any company, the trainer's log-probs, new weights in place and stale ones caught."""

import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import vllm_process

from fire_opd.demo.models import VOCABULARY
from fire_opd.errors import EngineError, StaleWeightsError
from fire_opd.generation import Request
from fire_opd.runtime.seeds import derive_seed
from tests.families import save_family

MAX_TOKENS = 48
both_heads = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


def requests(count=48, temperature=1.0):
    draw = random.Random(7)
    prompts = [[draw.randrange(2, 64) for _ in range(draw.randrange(1, 20))] for _ in range(count // 2)]
    return [
        Request(prompt, derive_seed(0, 1, str(prompt), sample), temperature, MAX_TOKENS)
        for prompt in prompts
        for sample in range(2)
    ]


def whole(asked, completions):
    return [request.prompt_ids + done.token_ids for request, done in zip(asked, completions, strict=True)]


def check_family(call, tmp_path, name, note=lambda error: None, **changes):
    """Sample before and after new weights; `note` hears the largest difference from the model's own logits so far."""
    first, second = (save_family(name, tmp_path / n, vocab_size=80, **changes) for n in ("first", "second"))
    tiny_models.scale(second, 1.05)
    asked, error = requests(), 0.0
    for new, directory in ((False, first), (True, first), (True, second)):
        if new:
            call(vllm_process.reload, first, directory, None)
        completions = call(vllm_process.generate, first, asked)
        expected = tiny_models.logprobs(directory, whole(asked, completions))
        for done, (_, logprobs) in zip(completions, expected, strict=True):
            np.testing.assert_allclose(done.logprobs, logprobs[-len(done.logprobs) :], atol=1e-4)
            error = max(error, float(np.abs(np.subtract(done.logprobs, logprobs[-len(done.logprobs) :])).max()))
        note(error)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request, models, in_vllm):
    """A model that the shared engine holds, before and after the test."""
    directory = models(request.param, "a")
    yield directory
    in_vllm(vllm_process.reload, directory, directory, None)


def test_logprobs_are_those_of_transformers(in_vllm, model):
    asked = requests()
    completions = in_vllm(vllm_process.generate, model, asked)
    expected = tiny_models.logprobs(model, whole(asked, completions))
    for completion, (_, logprobs) in zip(completions, expected, strict=True):
        np.testing.assert_allclose(completion.logprobs, logprobs[-len(completion.logprobs) :], atol=1e-4)


@both_heads
def test_rows_that_pad_the_output_matrix_are_never_sampled(in_vllm, models, tied):
    first, second = models(tied, "p"), models(tied, "q")
    for asked in (requests(), requests(8, temperature=0)):
        for directory in (first, second, first):  # also after new weights, in place
            in_vllm(vllm_process.reload, first, directory, None)
            completions = in_vllm(vllm_process.generate, first, asked)
            assert max(token for done in completions for token in done.token_ids) < tiny_models.SIZE
            expected = tiny_models.logprobs(directory, whole(asked, completions))
            for done, (_, logprobs) in zip(completions, expected, strict=True):
                np.testing.assert_allclose(done.logprobs, logprobs[-len(done.logprobs) :], atol=1e-4)


@pytest.mark.parametrize("name", ["granite", "cohere", "gemma2"])
def test_scaled_and_capped_logits_before_and_after_new_weights(in_vllm, tmp_path, name):
    check_family(in_vllm, tmp_path, name)


@pytest.mark.full
def test_experts_before_and_after_new_weights(in_fresh_vllm, tmp_path):
    check_family(in_fresh_vllm, tmp_path, "qwen3_moe", moe_intermediate_size=40)  # vLLM pads it to 64


@pytest.mark.full
def test_experts_that_take_no_new_weights_are_an_error(in_fresh_vllm, tmp_path):
    with pytest.raises(EngineError, match=r"no new weights for the experts.*placement\.sampler\.mode to cold"):
        check_family(in_fresh_vllm, tmp_path, "gpt_oss")


def test_temperature_zero_takes_the_most_likely_token(in_vllm, model):
    asked = requests(8, temperature=0)
    completions = in_vllm(vllm_process.generate, model, asked)
    expected = tiny_models.logprobs(model, whole(asked, completions))
    for completion, (likely, _) in zip(completions, expected, strict=True):
        assert completion.token_ids == likely[-len(completion.token_ids) :]


def test_a_completion_depends_on_its_request_alone(in_vllm, model):
    asked = requests()
    together = in_vllm(vllm_process.generate, model, asked)
    assert in_vllm(vllm_process.generate, model, asked) == together  # again, by an engine that has done it before
    assert in_vllm(vllm_process.generate, model, asked[::-1]) == together[::-1]
    for part in (slice(0, 1), slice(1, 8), slice(8, 48)):
        assert in_vllm(vllm_process.generate, model, asked[part]) == together[part]


def test_samples_of_one_prompt_differ(in_vllm, model):
    asked = [Request([5, 6, 7], derive_seed(0, 1, "prompt", sample), 1.0, MAX_TOKENS) for sample in range(64)]
    completions = in_vllm(vllm_process.generate, model, asked)
    assert len({tuple(completion.token_ids) for completion in completions}) == 64


def test_a_response_ends_with_end_of_sequence_or_at_its_length(in_vllm, model):
    completions = in_vllm(vllm_process.generate, model, requests())
    assert {completion.finish_reason for completion in completions} == {"stop", "length"}
    for completion in completions:
        ended = completion.finish_reason == "stop"
        assert (completion.token_ids[-1] == tiny_models.EOS_ID) == ended
        assert tiny_models.EOS_ID not in completion.token_ids[:-1]
        assert ended or len(completion.token_ids) == MAX_TOKENS
        assert len(completion.logprobs) == len(completion.token_ids)


def test_the_token_that_ends_a_response_is_no_part_of_its_text(in_vllm, model):
    """An ordinary token, as `sampling.stop_token_ids` may name: tokenizers leave only special ones out."""
    token = VOCABULARY.index("7")
    found = in_vllm(vllm_process.ended_by, model, token, requests())
    assert {completion.finish_reason for completion, _ in found} == {"stop", "length"}
    for completion, text in found:
        assert (completion.token_ids[-1] == token) == (completion.finish_reason == "stop")
        assert token not in completion.token_ids[:-1]
        assert "7" not in text


def test_progress_is_shown_before_the_first_response_is_finished(in_vllm, model):
    ticks = in_vllm(vllm_process.ticks, model, requests(8))
    assert ticks[:2] == [(0, 8), (0, 8)]
    assert ticks[-1] == (8, 8)
    assert ticks == sorted(ticks)


def test_a_request_that_does_not_fit_is_refused(in_vllm, model):
    with pytest.raises(EngineError, match="90 prompt and 7 response tokens"):
        in_vllm(vllm_process.generate, model, [Request([5] * 90, 1, 1.0, 7)])
    with pytest.raises(EngineError, match="expected a prompt"):
        in_vllm(vllm_process.generate, model, [Request([], 1, 1.0, 7)])


@both_heads
def test_weights_taken_in_place_equal_a_fresh_engine(in_vllm, models, tied):
    first, second, asked = models(tied, "a"), models(tied, "b"), requests()
    before = in_vllm(vllm_process.generate, first, asked)
    in_vllm(vllm_process.reload, first, second, first)
    after = in_vllm(vllm_process.generate, first, asked)
    assert after == in_vllm(vllm_process.generate, second, asked)  # started with these weights
    assert after != before
    in_vllm(vllm_process.reload, first, first, second)
    assert in_vllm(vllm_process.generate, first, asked) == before


@pytest.mark.parametrize("known", [True, False], ids=["previous known", "previous unknown"])
@pytest.mark.parametrize("name", ["b", "a+"], ids=["far", "below the noise"])
def test_stale_weights_are_caught(in_vllm, model, tmp_path, name, known):
    new = model.with_name(model.name.replace("a-", f"{name}-"))
    previous = model if known else None
    with pytest.raises(StaleWeightsError):
        in_vllm(vllm_process.reload_skipped, model, new, previous, tmp_path / "marker")
    in_vllm(vllm_process.reload, model, new, previous)


def test_weights_that_cannot_be_compared_prove_nothing(in_vllm, model, tmp_path):
    """An update below the noise in what vLLM fuses and packs; the same weights once more are no update."""
    new = shutil.copytree(model, tmp_path / "new")
    tiny_models.scale(new, 1 + 1e-6, only="q_proj")
    with pytest.raises(StaleWeightsError, match="nothing proves that it took the new weights"):
        in_vllm(vllm_process.reload, model, new, model)
    in_vllm(vllm_process.reload, model, new, None)
    in_vllm(vllm_process.reload, model, model, shutil.copytree(model, tmp_path / "same"))


def test_the_packed_copy_of_a_tied_head_is_caught(in_vllm, models):
    first, second = models(True, "a"), models(True, "b")
    with pytest.raises(StaleWeightsError, match="only some of them"):
        in_vllm(vllm_process.reload_without_repacking, first, second, first)
    in_vllm(vllm_process.reload, first, first, None)


def test_a_closed_engine_lets_its_process_end_quietly(models):
    code = (
        "import sys, psutil, vllm_process as v; from pathlib import Path; from fire_opd.generation import Request\n"
        "v.generate(Path(sys.argv[1]), [Request([5, 6], 1, 1.0, 8)]); v.close(Path(sys.argv[1]))\n"
        "print(len(psutil.Process().children(recursive=True)), 'left')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, models(True, "a")],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=360,
    )
    assert (done.returncode, done.stdout.split()[-2:]) == (0, ["0", "left"]), done.stderr
    assert "Traceback" not in done.stderr
    assert "leaked" not in done.stderr
