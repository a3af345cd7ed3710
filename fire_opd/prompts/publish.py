"""Publish prompt sets: check, fingerprint, copy into the store under the fingerprint; equal content is one set.

prompts/<name>/<fingerprint>/<sha256>.jsonl | .parquet | .jsonl.gz | …   the file as it was given, or
prompts/<name>/<fingerprint>/<digest>/00000-….jsonl …                    the files of a set that has several
prompts/<name>/<fingerprint>/set.json                                    written last: without it there is no set
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fire_opd.errors import PromptError
from fire_opd.prompts.containers import identify
from fire_opd.prompts.files import PromptFile, files_digest, local_file, prompt_files, shard_name, unreadable
from fire_opd.prompts.fingerprint import SetFingerprint
from fire_opd.prompts.problems import Problems
from fire_opd.prompts.read import read_prompts
from fire_opd.runtime.failpoints import reach
from fire_opd.storage import Store
from fire_opd.storage.places import scratch

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
PUBLISHED = "prompts"


class PromptSet(BaseModel):
    """A published set."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    fingerprint: str
    file: str = Field(pattern=r"^[^/\\]*[^/\\.][^/\\]*$")  # in the set's folder: a file, or a folder of several
    prompts: int
    size: int
    sha256: str

    @property
    def reference(self) -> str:
        """`name/fingerprint`: how flows and events name the set."""
        return f"{self.name}/{self.fingerprint}"

    @property
    def folder(self) -> str:
        """Key of the set's folder in the store."""
        return f"{PUBLISHED}/{self.reference}"


def publish_prompts(store: Store, path: str, name: str) -> PromptSet:
    """Check the set at `path` and put it into the store; a set that is there already is returned as it is.

    What is checked and what is stored are one local copy, so that a file that still changes cannot slip through.

    Args:
        store: where to.
        path: a file, a folder of shards or a glob, local or at any fsspec URL.
        name: of the set, such as `support-tickets`.

    Raises:
        PromptError: the name is not usable, the set cannot be read, has bad rows or no prompt.
    """
    if not _NAME.fullmatch(name):
        raise PromptError(f"name {name!r}: expected lower-case letters, digits, `.`, `-` and `_`")
    with scratch() as folder:
        copies = [_fetch(file, folder / shard_name(n, file)) for n, file in enumerate(prompt_files(path))]
        fingerprint = _checked(copies, path)
        digest = files_digest(copies)
        single = len(copies) == 1
        made = PromptSet(
            name=name,
            fingerprint=fingerprint.hexdigest(),
            # two publishers of equal content may bring different files
            file=f"{digest}{identify(copies[0]).suffix}" if single else digest,
            prompts=len(fingerprint),
            size=sum(Path(copy.name).stat().st_size for copy in copies),
            sha256=digest,
        )
        there = _find(store, made.folder)
        if there is None:
            for copy in copies:
                key = made.file if single else f"{made.file}/{Path(copy.name).name}"
                reach("prompts.file")
                store.upload(Path(copy.name), f"{made.folder}/{key}")
            reach("prompts.uploaded")
            store.write_json(f"{made.folder}/set.json", made.model_dump(), None)
            reach("prompts.written")
            there = _find(store, made.folder)  # of two publishers the first one's file counts
    return there or made


def find_prompts(store: Store, reference: str) -> PromptSet:
    """The published set `name/fingerprint`.

    Raises:
        PromptError: there is none; the message lists those of the name.
    """
    found = _find(store, f"{PUBLISHED}/{reference}") if re.fullmatch(r"[^/]+/[0-9a-f]{32}", reference) else None
    if found is None:
        known = ", ".join(sorted(s.reference for s in published_prompts(store))) or "none"
        raise PromptError(f"prompt set {reference!r}: not published; expected name/fingerprint, of these: {known}")
    return found


def published_prompts(store: Store) -> Iterator[PromptSet]:
    """All published sets."""
    for item in store.items(PUBLISHED):
        if item.key.endswith("/set.json"):
            found = _find(store, item.key.removesuffix("/set.json"))
            if found is not None:
                yield found


def claim_prompts(store: Store, published: PromptSet, model: str, claim: dict[str, str]) -> dict[str, str]:
    """Claim a set for one retraining of `model`: the first claim is kept and returned to all who come later."""
    key = f"{published.folder}/retrained-{model}.json"
    if store.write_json(key, dict(claim), None):
        return claim
    found = claimed(store, published, model)
    return found or claim_prompts(store, published, model, claim)


def claimed(store: Store, published: PromptSet, model: str) -> dict[str, str] | None:
    """Who retrained `model` on the set, or None."""
    read = store.read_json(f"{published.folder}/retrained-{model}.json")
    return read[0] if read else None


def _find(store: Store, folder: str) -> PromptSet | None:
    read = store.read_json(f"{folder}/set.json")
    try:
        return PromptSet.model_validate(read[0]) if read else None
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{store.url(folder)}/set.json: {'.'.join(map(str, first['loc']))}"
        raise PromptError(f"{where}: {first['msg']}; remove that folder and publish the set again") from error


def _fetch(file: PromptFile, copy: Path) -> PromptFile:
    """A local copy, which messages call what the file is called."""
    with file.open() as source, copy.open("wb") as target:
        try:
            shutil.copyfileobj(source, target, 1 << 20)
        except Exception as error:  # each store has errors of its own
            raise unreadable(file.shown, error) from error
    return local_file(copy, file.shown)


def _checked(copies: list[PromptFile], path: str) -> SetFingerprint:
    problems, fingerprint = Problems(), SetFingerprint()
    for prompt in read_prompts(path, problems, files=copies):
        fingerprint.add(prompt, prompt.teacher)
    problems.check()
    if not len(fingerprint):
        raise PromptError(f"{path}: has no prompt")
    return fingerprint
