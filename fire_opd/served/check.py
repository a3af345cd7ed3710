"""Before the start: does every teacher's server answer, with numbers that can be used, for sequences of this length?"""

from fire_opd.errors import TeacherError
from fire_opd.served.probe import ask_all
from fire_opd.served.teacher import ServedTeacher
from fire_opd.spec import RunSpec


def check_servers(spec: RunSpec, vocab: int) -> list[str]:
    """Ask every server for its model and for the probe tokens; all that fail are named.

    Args:
        spec: `placement.servers`.
        vocab: ids that student and teachers share.

    Returns:
        Notes: what answers for whom.

    Raises:
        PreflightError, SpecError: the first teacher that cannot be asked for what the method needs.
        TeacherError: one line for each server that cannot be used.
    """
    teachers = [ServedTeacher(spec, name, vocab) for name in spec.placement.servers]
    notes, problems = list[str](), list[TeacherError]()
    for teacher in teachers:
        try:
            _check_length(spec, teacher)
            ask_all(teacher, spec.teachers[teacher.name].dtype)
            notes.append(
                f"{teacher.client.name}: {teacher.client.model()} answers, asked for "
                f"{'all tokens at a place' if teacher.whole else 'the sampled tokens'}"
            )
        except TeacherError as error:
            problems.append(error)
        finally:
            teacher.client.close()
    if problems:
        raise type(problems[0])("\n".join(map(str, problems)))
    return notes


def _check_length(spec: RunSpec, teacher: ServedTeacher) -> None:
    longest = teacher.client.about.get("max_model_len")
    response = max(spec.sampling.max_tokens, spec.evaluation.max_tokens or 0)
    needed = spec.prompts.max_tokens + response + 1
    if longest is not None and needed > int(longest):
        raise TeacherError(
            f"{teacher.client.name}: takes {longest} tokens; prompts.max_tokens + the longest response + 1 = {needed}; "
            f"start it with --max-model-len {needed}, or lower one of them"
        )
