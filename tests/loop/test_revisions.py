"""Models at a git revision, in scratch repositories."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torchgauge.errors import ModelError, UsageError
from torchgauge.loop.revisions import checkout, report_at
from torchgauge.request import Inputs, Request

NET = """\
from torch import nn
{extra}
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, {width}))
"""


class Repository:
    def __init__(self, folder: Path, names: str = "sha1") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", f"--object-format={names}")

    def git(self, *arguments: str) -> str:
        setting = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"]
        done = subprocess.run(
            ["git", *setting, *arguments],
            cwd=self.folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def commit(self, message: str = "x") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")


def request(spec: str = "net.py:Net") -> Request:
    return Request(spec=spec, inputs=Inputs(size=(4, 8)))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    made = Repository(tmp_path / "project")
    made.write("net.py", NET.format(width=4, extra=""))
    made.commit()
    monkeypatch.chdir(made.folder)
    return made


def test_the_files_of_a_repository_with_longer_names(tmp_path: Path) -> None:
    made = Repository(tmp_path / "project", names="sha256")
    made.write("net.py", NET.format(width=4, extra=""))
    made.commit()
    with checkout("HEAD", made.folder) as there:
        assert (there.top / "net.py").is_file()


def test_a_dirty_work_tree_is_left_as_it_is(repository: Repository) -> None:
    repository.write("net.py", NET.format(width=16, extra=""))
    repository.write("staged.py", "1")
    repository.git("add", "staged.py")
    repository.write("new.py", "2")
    before = repository.git("status", "--porcelain"), repository.git("diff")

    report = report_at(request(), "HEAD")

    assert report.totals.params == 8 * 4 + 4
    assert report.model_spec == "net.py:Net@HEAD"
    assert (repository.git("status", "--porcelain"), repository.git("diff")) == before
    assert repository.git("worktree", "list").count("\n") == 0


@pytest.mark.slow
def test_what_the_file_imports_is_of_the_revision_too(repository: Repository) -> None:
    repository.write("sizes.py", "width = 5")
    repository.write("net.py", NET.format(width="sizes.width", extra="import sizes"))
    repository.commit()
    repository.git("tag", "five")
    repository.write("sizes.py", "width = 7")
    repository.commit()
    assert report_at(request(), "five").totals.params == 8 * 5 + 5
    assert report_at(request(str(repository.folder / "net.py:Net")), "five").totals.params == 45


def test_a_package_on_the_search_path_is_of_the_revision(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("src/deep/__init__.py", "")
    repository.write("src/deep/net.py", NET.format(width=3, extra=""))
    old = repository.commit()
    repository.write("src/deep/net.py", NET.format(width=9, extra=""))
    repository.commit()
    monkeypatch.syspath_prepend(str(repository.folder / "src"))
    assert report_at(request("deep.net:Net"), old).totals.params == 8 * 3 + 3


@pytest.mark.slow
def test_a_submodule_has_the_commit_of_the_revision(repository: Repository, tmp_path: Path) -> None:
    library = Repository(tmp_path / "library")
    library.write("parts.py", "width = 2")
    library.commit()
    repository.git("submodule", "--quiet", "add", "-f", str(library.folder), "lib")
    extra = "import sys; sys.path.insert(0, 'lib'); from parts import width"
    repository.write("net.py", NET.format(width="width", extra=extra))
    old = repository.commit()
    repository.write("lib/parts.py", "width = 6")
    setting = ["-C", "lib", "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", *setting, "commit", "-qam", "x"], cwd=repository.folder, check=True)
    repository.commit()
    assert report_at(request(), old).totals.params == 8 * 2 + 2
    assert report_at(request(), "HEAD").totals.params == 8 * 6 + 6


def test_a_shallow_clone_has_its_own_commits(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("more.py", "")
    repository.commit()
    url = repository.folder.as_uri()
    repository.git("clone", "-q", "--depth", "1", url, str(tmp_path / "shallow"))
    monkeypatch.chdir(tmp_path / "shallow")
    assert report_at(request(), "HEAD").totals.params == 36
    with pytest.raises(UsageError, match="there is no revision 'HEAD~1'") as caught:
        report_at(request(), "HEAD~1")
    assert "shallow" in caught.value.hint


def test_a_linked_work_tree_and_a_folder_within(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("models/net.py", NET.format(width=11, extra=""))
    repository.commit()
    repository.git("worktree", "add", "-q", str(tmp_path / "linked"))
    monkeypatch.chdir(tmp_path / "linked" / "models")
    assert report_at(request(), "main").totals.params == 8 * 11 + 11
    with pytest.raises(UsageError, match="there is no folder models at main~1"):
        report_at(request(), "main~1")


def test_inside_a_hook_the_index_of_the_commit_is_left_alone(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = repository.folder / ".git" / "index"
    before = index.read_bytes()
    monkeypatch.setenv("GIT_DIR", str(repository.folder / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(index))
    assert report_at(request(), "HEAD").totals.params == 36
    assert index.read_bytes() == before


def test_a_revision_that_does_not_import_says_where(repository: Repository) -> None:
    repository.write("net.py", "import nothing_of_this_name")
    repository.commit()
    with pytest.raises(UsageError) as caught:
        report_at(request(), "HEAD")
    assert caught.value.message.startswith("at HEAD: net.py:Net: importing net.py failed")
    assert "/torchgauge-" not in str(caught.value)


def test_a_model_that_fails_is_reported_up_to_there(repository: Repository) -> None:
    report = report_at(Request(spec="net.py:Net", inputs=Inputs(size=(4, 9))), "HEAD")
    assert report.failure is not None and report.failure.path == "0"


def test_a_worker_that_dies_is_an_error(repository: Repository) -> None:
    repository.write("net.py", "import os\nos._exit(7)")
    repository.commit()
    with pytest.raises(ModelError, match="the process that analysed it ended: exit status 7"):
        report_at(request(), "HEAD")


def test_the_checkout_is_removed(repository: Repository) -> None:
    with checkout("HEAD", repository.folder) as there:
        assert (there.top / "net.py").is_file()
        assert there.commit == repository.git("rev-parse", "HEAD")
    assert not there.top.exists()


def test_a_folder_without_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with (
        pytest.raises(UsageError, match="not a git repository"),
        checkout("HEAD", tmp_path),
    ):
        raise AssertionError


def test_without_git(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(UsageError, match="git cannot be run"):
        report_at(request(), "HEAD")


def test_ctrl_c_ends_the_workers(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from torchgauge.loop.worker import Task\n"
        "from torchgauge.loop.workers import Place, answer_all\n"
        "from torchgauge.request import Request\n"
        "task = Task(request=Request(spec='net.py:Net'))\n"
        "answer_all([task, task, task], Place(folder=Path.cwd()), jobs=1)\n"
    )
    asking = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        assert asking.poll() is None
        time.sleep(0.1)
    os.kill(asking.pid, signal.SIGINT)
    _, said = asking.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
