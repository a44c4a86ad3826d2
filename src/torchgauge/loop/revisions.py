"""Models at a git revision: a clean checkout in a folder of its own, analysed by a process there.

The work tree, the index and the branches of the repository are never touched: the checkout is a
repository of its own that borrows the objects of the other one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torchgauge
from torchgauge.errors import ModelSpecError, UsageError
from torchgauge.facts.report import Report
from torchgauge.loop.worker import Answered, Task
from torchgauge.loop.workers import Place, answer_all
from torchgauge.models.spec import SpecKind, parse_model_spec
from torchgauge.request import Request

_FILES = (SpecKind.PYTHON_FILE, SpecKind.SAFETENSORS, SpecKind.CHECKPOINT, SpecKind.EXPORTED)
_SHA256_DIGITS = 64
_OF_A_HOOK = (
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_PREFIX", "GIT_NAMESPACE",
)  # fmt: skip
"""What git sets for its hooks: it would lead to the index of the commit that is being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """The files of a revision."""

    revision: str
    """As it was named."""
    commit: str
    source: Path
    """The top of the work tree that the revision belongs to."""
    top: Path
    """The same place in the checkout."""

    def place_of(self, folder: Path) -> Place:
        """Return where what belongs to a folder of the work tree is analysed.

        Raises:
            UsageError: the revision does not have the folder.
        """
        there = self.top / folder.resolve().relative_to(self.source)
        if not there.is_dir():
            name = folder.resolve().relative_to(self.source)
            raise UsageError(
                f"there is no folder {name} at {self.revision}",
                hint="name a revision that has it",
            )
        return Place(folder=there, search=tuple(self._search()))

    def _search(self) -> Iterator[Path]:
        """Yield the folders of the checkout that stand for those on this Python's search path."""
        own = Path(torchgauge.__file__).resolve().parent.parent
        prefix = Path(sys.prefix).resolve()
        for entry in map(Path, filter(None, sys.path)):
            place = entry.resolve()
            if place == own or place.is_relative_to(prefix):
                continue
            if place.is_relative_to(self.source):
                there = self.top / place.relative_to(self.source)
                if there.is_dir():
                    yield there

    def told(self, text: str) -> str:
        """Return a message with the files called by their names in the repository."""
        return text.replace(f"{self.top}{os.sep}", "").replace(str(self.top), ".")


def report_at(request: Request, revision: str) -> Report:
    """Return the report of a model as it is at a git revision of the current repository.

    That of a model that fails ends at the layer.

    Raises:
        UsageError: there is no such revision, or no such model in it.
        ModelError: the model's code fails before it runs.
    """
    folder = Path.cwd()
    request.tell(f"checking out {revision}")
    with checkout(revision, folder) as there:
        request.tell(f"building {request.spec} at {revision}")
        answered = answers_at(there, [Task(request=request)], folder)[0]
    report = answered.report
    if report is None:
        raise answered.raised()
    return replace(report, model_spec=f"{request.spec}@{revision}")


def answers_at(
    there: Checkout, tasks: Sequence[Task], folder: Path, *, jobs: int | None = None
) -> list[Answered]:
    """Return what comes of tasks at a revision; ``folder`` is what their specs start from.

    Raises:
        UsageError: the revision does not have the folder.
    """
    asked = [replace(task, request=_moved(task.request, there)) for task in tasks]
    found = answer_all(asked, there.place_of(folder), jobs=jobs)
    return [_told(there, answered) for answered in found]


def _told(there: Checkout, answered: Answered) -> Answered:
    if not answered.error:
        return answered
    error, hint = there.told(answered.error), there.told(answered.hint)
    return replace(answered, error=f"at {there.revision}: {error}", hint=hint)


def _moved(request: Request, there: Checkout) -> Request:
    """Return the request with a file that is named from the root named from the checkout."""
    assert request.spec is not None
    try:
        spec = parse_model_spec(request.spec, dict(request.settings))
    except ModelSpecError:  # a file that is there at the revision alone, or one that never is
        return request
    target = Path(spec.target)
    if spec.kind not in _FILES or not target.is_absolute():
        return request
    if not target.resolve().is_relative_to(there.source):
        return request
    moved = there.top / target.resolve().relative_to(there.source)
    return replace(request, spec=request.spec.replace(spec.target, str(moved), 1))


@contextmanager
def checkout(revision: str, folder: Path) -> Iterator[Checkout]:
    """Check a revision out of the repository that ``folder`` belongs to; remove it at the end.

    Submodules come from the copies that the repository has; those that it does not have are left
    empty. Files of Git LFS stay pointers.

    Raises:
        UsageError: ``folder`` is in no repository, or the repository has no such revision.
    """
    source = Path(_git(["rev-parse", "--show-toplevel"], folder)).resolve()
    commit = _commit(revision, source)
    with tempfile.TemporaryDirectory(prefix="torchgauge-") as scratch:
        top = (Path(scratch) / source.name).resolve()
        _check_out(_git_folders(source), commit, top)
        _add_submodules(source, top)
        yield Checkout(revision=revision, commit=commit, source=source, top=top)


def _commit(revision: str, source: Path) -> str:
    try:
        named = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"]
        return _git(named, source)
    except UsageError:
        is_shallow = _git(["rev-parse", "--is-shallow-repository"], source) == "true"
        fetch = f"git fetch origin {revision.removeprefix('origin/')}"
        raise UsageError(
            f"there is no revision {revision!r} in {source}",
            hint=f"this clone is shallow: {fetch}" if is_shallow else f"git branch -a, or {fetch}",
        ) from None


def _git_folders(source: Path) -> list[Path]:
    """Return the folders of git's own files: that of a linked work tree, and the common one."""
    names = [_git(["rev-parse", option], source) for option in ("--git-dir", "--git-common-dir")]
    return [(source / name).resolve() for name in names]


def _check_out(git_folders: Sequence[Path], commit: str, top: Path) -> None:
    """Write the files of a commit of another repository, whose objects are borrowed."""
    # Objects can be borrowed by a repository with names of the same kind alone.
    names = "sha256" if len(commit) == _SHA256_DIGITS else "sha1"
    _git(["init", "--quiet", f"--object-format={names}", str(top)], top.parent)
    common = git_folders[-1]
    own = top / ".git"
    (own / "objects" / "info" / "alternates").write_text(f"{common / 'objects'}\n")
    if (common / "shallow").is_file():  # else git takes the missing parents for damage
        (own / "shallow").write_bytes((common / "shallow").read_bytes())
    _git(["checkout", "--quiet", "--detach", commit], top)


def _add_submodules(source: Path, top: Path) -> None:
    """Fill the submodules of a checkout from the copies that its source has, those within too."""
    if not (top / ".gitmodules").is_file():
        return
    listed = _git(["ls-files", "--stage", "-z"], top).split("\0")
    for line in listed:
        kind, _, rest = line.partition(" ")
        if kind != "160000":
            continue
        commit, path = rest.split(" ")[0], rest.partition("\t")[2]
        origin = source / path
        for git_folder in _copies(source, top, path):
            (top / path).mkdir(parents=True, exist_ok=True)
            try:
                _check_out([git_folder], commit, top / path)
            except UsageError as error:
                raise UsageError(
                    f"the submodule {path} has no commit {commit[:12]} here",
                    hint="git submodule update --init",
                ) from error
            _add_submodules(origin, top / path)
            break


def _copies(source: Path, top: Path, path: str) -> Iterator[Path]:
    """Yield where git may keep the repository of a submodule, if it is there."""
    origin = source / path
    if (origin / ".git").exists():
        yield _git_folders(origin)[-1]
    name = path
    listed = _git(["config", "--file", ".gitmodules", "--get-regexp", r"\.path$"], top)
    for line in listed.splitlines():
        key, _, value = line.partition(" ")
        if value == path:
            name = key.removeprefix("submodule.").removesuffix(".path")
    for folder in _git_folders(source):
        if (folder / "modules" / name / "objects").is_dir():
            yield folder / "modules" / name


def _git(arguments: Sequence[str], folder: Path) -> str:
    """Return what git prints.

    Raises:
        UsageError: git is not there, or says no.
    """
    environment = {name: text for name, text in os.environ.items() if name not in _OF_A_HOOK}
    environment |= {"GIT_LFS_SKIP_SMUDGE": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    # The user's hooks are for the user's own checkouts.
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "advice.detachedHead=false"]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            stdin=subprocess.DEVNULL,
        )
    except OSError as error:
        raise UsageError(
            f"git cannot be run: {error.strerror}", hint="install git, or leave the revision out"
        ) from error
    if done.returncode:
        said = done.stderr.strip().removeprefix("fatal: ") or f"exit status {done.returncode}"
        raise UsageError(
            f"git {arguments[0]} failed in {folder}: {said}",
            hint="a revision needs the git repository that the model is in",
        )
    return done.stdout.rstrip("\n")
