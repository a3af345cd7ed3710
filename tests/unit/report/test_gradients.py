"""Cosines of the methods' gradients on a recorded round, against autograd on whole logits."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from fire_opd.head.probes import make_probe_tokens, write_probes
from fire_opd.report.picture import save, what_if_drawing
from fire_opd.report.whatif import what_if, what_if_table
from fire_opd.runtime.tick import no_tick
from fire_opd.scores import Scorer, score_round
from fire_opd.spec import RunSpec
from fire_opd.storage import Run
from tests.conftest import Assets
from tests.unit.scores.test_scores import SEQUENCES, TEACHERS, naive, write_rollouts


def test_cosines_are_those_of_plain_gradients(assets: Assets, tmp_path: Path) -> None:
    spec = assets.spec("method.name=opd")
    run = Run.create(tmp_path / "run", spec)
    checkpoint = Path(shutil.copytree(spec.student.path, run.path("rounds/0/checkpoint")))
    probes = make_probe_tokens(64)
    values = naive(checkpoint, [(row[:1], row[1:]) for row in probes])
    write_probes(checkpoint, probes, [logprob.tolist() for logprob, _ in values])
    run.path("rounds/1/scores").mkdir(parents=True)
    rollouts = write_rollouts(run.path("rounds/1/rollouts"), spec)
    score_round(Scorer(spec), spec, rollouts, run.path("rounds/1/scores"), no_tick)
    found = what_if(run, 1, ["reverse_kl", "tip"], gradients=True)
    rows = {row["method"]: row for row in found}
    assert rows["opd"]["cosine"] == pytest.approx(1, abs=1e-6)
    assert rows["tip"]["cosine"] is None  # these scores have no column for it
    plain = [_plain_gradient(spec, sampled=sampled) for sampled in (True, False)]
    expected = float(torch.nn.functional.cosine_similarity(*plain, dim=0))
    assert rows["reverse_kl"]["cosine"] == pytest.approx(expected, abs=1e-4)
    assert abs(expected) < 0.99
    assert "cosine" in [column.header for column in what_if_table(found, 1).columns]
    save(what_if_drawing(found, 1), tmp_path / "whatif.png")
    assert (tmp_path / "whatif.png").read_bytes().startswith(b"\x89PNG")


def _plain_gradient(spec: RunSpec, *, sampled: bool) -> torch.Tensor:
    """Of the mean over trajectories of the mean over tokens of −a log πθ(y), or of KL(πθ ‖ πT)."""

    def load(path: str) -> Any:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)

    student = load(spec.student.path)
    teachers = {name: load(teacher.path) for name, teacher in spec.teachers.items()}
    loss = torch.zeros(())
    for (prompt, response), name in zip(SEQUENCES, TEACHERS, strict=True):
        tokens, places = torch.tensor([prompt + response]), slice(len(prompt) - 1, -1)
        logp, logq = (m(tokens).logits[0, places, :64].log_softmax(-1) for m in (student, teachers[name]))
        if sampled:
            own, theirs = (x.gather(1, torch.tensor(response)[:, None])[:, 0] for x in (logp, logq.detach()))
            terms = -(theirs - own.detach()) * own
        else:
            terms = (logp.exp() * (logp - logq.detach())).sum(-1)
        loss = loss + terms.mean() / len(SEQUENCES)
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in student.parameters()])
