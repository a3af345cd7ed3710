"""The errors a user can meet. Each message says what was found, what was expected and what to do."""

STOPPED = 130  # exit status of a command that was stopped by a signal or cancelled


class FireOpdError(Exception):
    """Base of every error this project raises on purpose."""

    exit_status = 1  # of the command that meets it; docs/errors.md lists them


class InputError(FireOpdError):
    """What the user gave cannot be used: nothing was started, and the same command fails again until it is changed."""

    exit_status = 2


class SpecError(InputError):
    """The run's specification is unknown, contradictory or impossible on this machine."""


class PromptError(InputError):
    """A prompt set has bad lines, unknown teachers, or prompts that leak from the evaluation set."""


class PreflightError(InputError):
    """Student and teacher cannot be distilled into one another (tokenizers, vocabularies, end-of-sequence)."""


class ArtifactError(FireOpdError):
    """A stage directory is missing, incomplete or altered."""


class RunError(FireOpdError):
    """A run folder cannot be used: another spec, another owner, too little disk."""


class StoreError(FireOpdError):
    """The store of published prompt sets and models holds something that is not right."""

    exit_status = 3


class StoreUnreachable(StoreError):
    """The store did not answer, or refused. Worth a retry."""


class TeacherError(FireOpdError):
    """A teacher's server gives no answer that can be used: refused, incomplete, or of another model."""


class TeacherUnreachable(TeacherError):
    """A teacher's server did not answer within its deadline. Worth a retry."""


class StaleWeightsError(FireOpdError):
    """An engine that was given new weights still computes with other ones."""


class MismatchError(FireOpdError):
    """Sampling engine and trainer disagree about log-probs by more than the spec allows."""


class RuleError(FireOpdError):
    """A figure of a round is out of the bounds that the spec sets (`rules`)."""


class EmptyRoundError(FireOpdError):
    """A round leaves nothing to train on."""


class EngineError(FireOpdError):
    """An engine process failed while it ran a stage; the message names the log with its traceback."""


class NotFiniteError(EngineError):
    """A loss or gradient is NaN or infinite."""


class EngineDied(EngineError):
    """An engine process ended, or gave no sign of life within its deadline. Worth a retry."""


class LineageError(FireOpdError):
    """A run cannot be recorded, found, reproduced or explained."""


def print_error(error: FireOpdError) -> None:
    """One message on standard error, without a traceback."""
    from rich.console import Console

    console = Console(stderr=True)
    console.print(f"[bold red]{type(error).__name__}[/]: ", end="")
    console.print(str(error), markup=False, highlight=False, soft_wrap=True)
