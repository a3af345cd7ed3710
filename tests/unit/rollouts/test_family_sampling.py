"""Every family in vLLM: its log-probs are those of the model's own logits, before and after new weights in place.

What docs/models.md says of sampling and hand-over comes from here. What vLLM cannot do on a CPU is refused at
the dry run, by the lists that are compared here.
"""

import pytest
from test_sampler import check_family

from fire_opd.checks.configs import COLD_ON_CPU, UNSAMPLED, UNSAMPLED_ON_CPU
from fire_opd.errors import EngineError
from tests.families import FAMILIES

pytestmark = pytest.mark.full
NOT_HERE = {  # what vLLM says (of an architecture that it does not know, an error that cannot be pickled), and in words
    "qwen3_next": ("GDN attention requires BF16", "bf16 only on CPUs, by vLLM"),
    "qwen3_5_text": ("pydantic_core.*ArgsKwargs", "no: vLLM knows it with its vision part only"),
    "lfm2": ("Not equal to tolerance", "not exact on CPUs: the first token after some prompts, by vLLM's convolution"),
    "deepseek_v3": ("not supported by MLA", "not at test sizes: latent attention of 576 only, by vLLM"),
    "mpt": ("pydantic_core.*ArgsKwargs", "no: not in vLLM"),
}


def test_what_fails_here_is_refused_before_a_start():
    assert NOT_HERE.keys() - {"deepseek_v3"} == UNSAMPLED.keys() | UNSAMPLED_ON_CPU.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_sampled_and_takes_new_weights(in_fresh_vllm, tmp_path, record_property, name):
    if name in NOT_HERE:
        said, words = NOT_HERE[name]
        with pytest.raises(Exception, match=said):
            check_family(in_fresh_vllm, tmp_path, name)
        record_property(f"{name}/sample", words)
        record_property(f"{name}/hand-over", "refused: it is not sampled")
        return
    errors = []
    if name in COLD_ON_CPU:
        with pytest.raises(EngineError, match=r"no new weights for the experts.*placement\.sampler\.mode to cold"):
            check_family(in_fresh_vllm, tmp_path, name, errors.append)
        record_property(f"{name}/hand-over", "by a fresh engine (mode cold)")
    else:
        check_family(in_fresh_vllm, tmp_path, name, errors.append)
        record_property(f"{name}/hand-over", "in place, exact")
    record_property(f"{name}/sample", f"{errors[-1]:.0e} nat")
