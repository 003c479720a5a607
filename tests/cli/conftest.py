"""What a refused command prints and leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tomosift.cli.main import main


@pytest.fixture
def refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must end with code 2 and one sentence, and leave ``tmp_path`` as it is; return it."""

    def attempt(*words: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        error = capsys.readouterr().err
        assert end.value.code == 2
        assert "Traceback" not in error
        last = error.splitlines()[-1]
        assert last.startswith("tomosift: ")
        assert error.count("tomosift: ") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return last

    return attempt
