import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geomatch.errors import GeomatchWarning, InputError
from geomatch.io.predictions import PredictionStore, cache_folder


def test_store_survives_closing(tmp_path: Path) -> None:
    arrays = {"points": np.arange(6.0).reshape(3, 2), "nothing": np.zeros((0, 2)), "one": np.array([np.nan])}
    store = PredictionStore(tmp_path / "new" / "a.sqlite")
    store.put("key", arrays)
    store.put("other", {"x": np.ones(1)})
    store.close()
    again = PredictionStore(tmp_path / "new" / "a.sqlite")
    found = again.get("key")
    assert found is not None
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    assert again.keys() == {"key", "other"}
    assert again.get("third") is None


def test_store_survives_a_killed_process(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; import numpy as np\n"
        "from pathlib import Path; from geomatch.io.predictions import PredictionStore\n"
        "store = PredictionStore(Path(sys.argv[1]))\n"
        "for k in range(5): store.put(str(k), {'x': np.full(3, k, float)})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a.sqlite"], check=False)
    assert done.returncode == -9
    store = PredictionStore(tmp_path / "a.sqlite")
    assert store.keys() == set("01234")
    kept = store.get("4")
    assert kept is not None
    assert kept["x"].tolist() == [4, 4, 4]


def test_store_names_a_damaged_file_and_deletes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"this was never a database of anything" * 100)
    with pytest.raises(InputError, match=r"a\.sqlite: kept predictions cannot be used .*--fresh"):
        PredictionStore(path)
    PredictionStore.delete(path)
    assert PredictionStore(path).keys() == set()


def test_store_names_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="kept predictions cannot be used"):
        PredictionStore(tmp_path / "file" / "a.sqlite")


def test_cache_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "geomatch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "geomatch"


def test_cache_folder_of_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a number: there is no HOME, and no entry in the list of users."""
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.warns(GeomatchWarning, match="no home folder .* set HOME or XDG_CACHE_HOME"):
        assert cache_folder() is None
