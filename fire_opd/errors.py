"""The errors a user can meet. Each message says what was found, what was expected and what to do."""


class FireOpdError(Exception):
    """Base of every error this project raises on purpose."""


class SpecError(FireOpdError):
    """The run's specification is unknown, contradictory or impossible on this machine."""


class PromptError(FireOpdError):
    """A prompt set has bad lines, unknown teachers, or prompts that leak from the evaluation set."""


class PreflightError(FireOpdError):
    """Student and teacher cannot be distilled into one another (tokenizers, vocabularies, end-of-sequence)."""


class ArtifactError(FireOpdError):
    """A stage directory is missing, incomplete or altered."""


class RunError(FireOpdError):
    """A run folder cannot be used: another spec, another owner, too little disk."""


class StoreError(FireOpdError):
    """The store of published prompt sets and models holds something that is not right."""


class StoreUnreachable(StoreError):
    """The store did not answer, or refused. Worth a retry."""


class StaleWeightsError(FireOpdError):
    """An engine that was given new weights still computes with other ones."""


class MismatchError(FireOpdError):
    """Sampling engine and trainer disagree about log-probs by more than the spec allows."""


class EmptyRoundError(FireOpdError):
    """A round leaves nothing to train on."""


class EngineError(FireOpdError):
    """An engine process failed while it ran a stage; the message names the log with its traceback."""


class EngineDied(EngineError):
    """An engine process ended, or gave no sign of life within its deadline. Worth a retry."""


class LineageError(FireOpdError):
    """A run cannot be recorded, found, reproduced or explained."""
