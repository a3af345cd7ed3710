"""A prompt set looked at before a run: is it there, of a kind that is read, and are its first rows sound?"""

from fire_opd.errors import PromptError
from fire_opd.prompts.columns import Columns
from fire_opd.prompts.files import prompt_files
from fire_opd.prompts.problems import Problems
from fire_opd.prompts.read import read_prompts
from fire_opd.prompts.rows import file_rows
from fire_opd.spec import EvaluationSpec, PromptsSpec


def check_prompt_set(part: PromptsSpec | EvaluationSpec, *, answers: bool, rows: int = 1000) -> None:
    """Open every file of a set, and check its first rows; `prepare` checks all of them, with tokenizer and teachers.

    Args:
        part: of the spec; it names the set and its columns.
        answers: whether every row needs an answer.
        rows: how many rows are read.

    Raises:
        PromptError: the set is not there or of a kind that is not read, has no row, or a row is wrong.
    """
    name = "prompts" if isinstance(part, PromptsSpec) else "evaluation"
    try:
        files = prompt_files(part.path)
    except PromptError as error:
        raise PromptError(f"{name}.path {error}") from error
    problems, columns = Problems(), Columns(part.columns, f"{name}.columns")
    for file in files:
        next(file_rows(file, columns.chosen), None)
    found = sum(1 for _ in read_prompts(part.path, problems, columns, answers=answers, files=files, rows=rows))
    problems.check()
    if not found:
        raise PromptError(f"{name}.path {part.path}: has no row")
