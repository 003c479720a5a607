"""The command inspect: what it prints, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from tomosift.cli.main import main
from tomosift.io.volumes import write_volume


def test_every_file_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_volume(tmp_path / "TS_1.mrc", np.zeros((20, 30, 40), dtype=np.float32), 10.0)
    (tmp_path / "TS_1.rawtlt").write_text("-30\n0\n30\n")
    main(["inspect", str(tmp_path / "TS_1.rawtlt"), str(tmp_path / "TS_1.mrc")])
    printed = capsys.readouterr().out
    assert "tilt series" in printed
    assert "volume" in printed


def test_unknown_files_end_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.xml").write_text("<a/>")
    with pytest.raises(SystemExit) as end:
        main(["inspect", str(tmp_path / "a.xml")])
    assert end.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
