"""Outputs respect what is there, survive kill -9 at any moment, and two living runs on one place."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from geomatch.errors import InputError
from geomatch.io.atomic import (
    check_new_file,
    check_new_folder,
    clear_unfinished,
    is_special,
    remove_output,
    write_atomically,
    write_folder_atomically,
)
from tests.conftest import ROOT


def write_single(place: Path, content: bytes) -> None:
    write_folder_atomically(place.parent, {place.name: content})


writers = pytest.mark.parametrize("write", [write_atomically, write_single])
Write = Callable[[Path, bytes], None]


@writers
@pytest.mark.parametrize("there", [True, False])
def test_output_link_target_is_written(write: Write, there: bool, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "out").mkdir()
    file, link = tmp_path / "far" / "file", tmp_path / "out" / "link"
    if there:
        file.write_bytes(b"old")
    (tmp_path / "far" / "middle").symlink_to("file")
    link.symlink_to(tmp_path / "far" / "middle")
    write(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "far" / "middle").is_symlink()
    assert file.read_bytes() == b"new"
    assert not list(tmp_path.rglob(".geomatch-*"))


@pytest.mark.parametrize("there", [True, False])
def test_output_folder_through_link(there: bool, tmp_path: Path) -> None:
    if there:
        (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far")
    check_new_folder(tmp_path / "link", overwrite=False)
    write_folder_atomically(tmp_path / "link", {"a": b"1"})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "a").read_bytes() == b"1"


@writers
def test_output_fifo_is_written_into(write: Write, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        check_new_file(tmp_path / name, overwrite=False, suffixes=(".csv",))
        writer = Thread(target=write, args=(tmp_path / name, b"x" * 200_000))
        writer.start()
        assert (tmp_path / "pipe").read_bytes() == b"x" * 200_000
        writer.join()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root makes devices")
@writers
def test_output_device_stays_a_device(write: Write, tmp_path: Path) -> None:
    full = tmp_path / "full"
    for device, number in ((tmp_path / "null", 3), (full, 7)):
        try:
            os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, number))
        except PermissionError:
            pytest.skip("devices cannot be made here")
    try:
        (tmp_path / "null").open("wb").close()
    except PermissionError:
        pytest.skip("devices cannot be used here")
    write(tmp_path / "null", b"gone")
    with pytest.raises(InputError, match="No space left on device"):
        write(full, b"lost")
    assert all(stat.S_ISCHR((tmp_path / name).stat().st_mode) for name in ("null", "full"))


def test_output_open_descriptor_is_continued(tmp_path: Path) -> None:
    """As /dev/stdout is, which may be a file that the shell has opened for appending."""
    with (tmp_path / "log").open("wb", buffering=0) as log:
        log.write(b"before ")
        (tmp_path / "link").symlink_to(f"/dev/fd/{log.fileno()}")
        for place in (Path(f"/dev/fd/{log.fileno()}"), tmp_path / "link"):
            assert is_special(place)
            write_atomically(place, b"result ")
        log.write(b"after")
    assert (tmp_path / "log").read_bytes() == b"before result result after"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "log"]


@writers
def test_output_folder_in_the_way_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "out" / "folder").mkdir(parents=True)
    (tmp_path / "out" / "link").symlink_to("folder")
    for name in ("folder", "link"):
        with pytest.raises(InputError, match="out"):
            write(tmp_path / "out" / name, b"")
        with pytest.raises(InputError, match="is a folder"):
            check_new_file(tmp_path / "out" / name, overwrite=True)
    assert not list(tmp_path.rglob(".geomatch-*"))


def test_output_folder_changes_nothing_if_one_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(InputError, match="Is a directory"):
        write_folder_atomically(tmp_path, {"a": b"new", "b": b"new"}, instead_of=["a"])
    assert (tmp_path / "a").read_bytes() == b"old"


def test_output_links_in_a_circle_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for call in (lambda: write_atomically(tmp_path / "a", b""), lambda: check_new_file(tmp_path / "a", overwrite=True)):
        with pytest.raises(InputError, match=r"a: could not be written \(Too many levels of symbolic links\)"):
            call()


def test_output_keeps_permissions(tmp_path: Path) -> None:
    file = tmp_path / "private"
    file.write_bytes(b"old")
    file.chmod(0o600)
    write_atomically(file, b"new")
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"new", 0o600)


def test_output_parents_are_made_when_something_is_written(tmp_path: Path) -> None:
    check_new_file(tmp_path / "a/b/c.csv", overwrite=False, suffixes=(".csv",))
    check_new_folder(tmp_path / "a/b/d", overwrite=False)
    assert list(tmp_path.iterdir()) == []
    write_atomically(tmp_path / "a/b/c.csv", b"1")
    write_folder_atomically(tmp_path / "a/x/d", {"e": b"2"})
    assert (tmp_path / "a/b/c.csv").read_bytes() == b"1"
    assert (tmp_path / "a/x/d/e").read_bytes() == b"2"


def test_output_suffix_decides_or_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in \.csv"):
        check_new_file(tmp_path / "a.json", overwrite=False, suffixes=(".csv",))
    with pytest.raises(InputError, match=r"the output is a folder"):
        check_new_folder(tmp_path / "a.html", overwrite=False)
    (tmp_path / "results.npz").mkdir()
    check_new_folder(tmp_path / "results.npz", overwrite=False)  # a folder that is there is one


def test_output_longest_file_names_can_be_written(tmp_path: Path) -> None:
    name = "猫" * 85  # 255 bytes
    write_atomically(tmp_path / name, b"1")
    write_folder_atomically(tmp_path / "out", {name: b"2"})
    assert (tmp_path / "out" / name).read_bytes() == b"2"


def test_remove_output_keeps_links_and_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    for name in ("pipe", "link", "none"):
        remove_output(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


CRASH = """
import os, signal, sys
from pathlib import Path
from geomatch.io.atomic import check_new_file, check_new_folder, write_atomically, write_folder_atomically

folder = Path(sys.argv[1])
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree", "tempfile.mkdtemp")

def run():
    check_new_file(folder / "file", overwrite=True)
    check_new_folder(folder / "out", overwrite=True)
    write_atomically(folder / "file", b"new")
    write_folder_atomically(folder / "out", {"a": b"new", "b": b"new"}, instead_of=["c"])
    write_folder_atomically(folder / "more" / "fresh", {"a": b"new", "b": b"new"})

def killed_at(moment):
    child = os.fork()
    if not child:
        passed = 0
        def count(event, arguments):
            nonlocal passed
            if event in CHANGES:
                if passed == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                passed += 1
        sys.addaudithook(count)
        run()
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL

moments = 0
while True:
    os.system(f"rm -rf '{folder}'/* '{folder}'/.geomatch-*")
    (folder / "out").mkdir()
    for name in ("file", "out/a", "out/c"):
        (folder / name).write_bytes(b"old")
    if not killed_at(moments):
        break
    moments += 1
    for path in (folder / "file", folder / "out" / "a", folder / "more" / "fresh" / "b"):
        assert not path.exists() or path.read_bytes() in (b"old", b"new"), path
    assert not (folder / "more" / "fresh").exists() or len(list((folder / "more" / "fresh").iterdir())) == 2
    check_new_folder(folder / "more" / "fresh", overwrite=True)
    run()
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {name: b"new" for name in ("file", "out/a", "out/b", "more/fresh/a", "more/fresh/b")}, found
    left = [path for path in folder.rglob(".geomatch-*")]
    assert left == [], (moments, left)
print(moments)
"""


def run_script(script: str, *arguments: object) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout


def test_output_killed_at_any_moment_is_whole_after_the_next_run(tmp_path: Path) -> None:
    """Every moment before a change of the file system: nothing is half-written, and the next run leaves no leftover."""
    assert int(run_script(CRASH, tmp_path)) > 30


def test_clear_unfinished_spares_living_runs(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from geomatch.io.atomic import _temporary_folder as hold\n"
    script += "with hold(Path(sys.argv[1])) as folder: print(folder, flush=True); sys.stdin.read()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "out.json")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    living = Path(process.stdout.readline().strip())
    (tmp_path / ".geomatch-out.json-ab12cd34").mkdir()
    (tmp_path / ".geomatch-notes").mkdir()  # not of the form that temporary folders have
    clear_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, ".geomatch-notes"])
    process.kill()
    process.communicate()
    clear_unfinished(tmp_path, "other.json")
    assert living.exists()
    clear_unfinished(tmp_path, "out.json")
    assert not living.exists()


RIVALS = """
import os, sys
from pathlib import Path
from geomatch.io.atomic import check_new_folder, write_folder_atomically

folder = Path(sys.argv[1])
children = []
for name in (b"one", b"two"):
    child = os.fork()
    if not child:
        for number in range(60):
            check_new_folder(folder / str(number % 3), overwrite=True)
            write_folder_atomically(folder / str(number % 3), {each: name for each in "abcdef"})
        os._exit(0)
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


def test_output_folder_of_two_living_runs_is_of_one_of_them(tmp_path: Path) -> None:
    """Both finish; no folder mixes their files, and nothing is left over."""
    run_script(RIVALS, tmp_path)
    for number in "012":
        assert len({(tmp_path / number / name).read_bytes() for name in "abcdef"}) == 1
    assert not list(tmp_path.rglob(".geomatch-*"))
