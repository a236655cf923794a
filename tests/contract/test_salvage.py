"""What salvage finds in a dead node's folder."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from node.salvage import _blob_files


def test_a_folder_that_a_dying_disk_does_not_give_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bad sectors come first where the disk was used most; the rest is what salvage is for."""
    for name in ("aa" * 32, "bb" * 32, "cc" * 32):
        (tmp_path / name[:2]).mkdir()
        (tmp_path / name[:2] / name).write_bytes(b"x")
    (tmp_path / "cc" / "part").mkdir()
    (tmp_path / "cc" / "part" / ("dd" * 32)).write_bytes(b"x")
    (tmp_path / "cc" / ("zz" * 32)).write_bytes(b"no hex")
    scan = os.scandir

    def dying(path: Any) -> Any:
        if str(path).endswith("bb"):
            raise OSError(errno.EIO, "Input/output error")
        return scan(path)

    monkeypatch.setattr(os, "scandir", dying)

    assert {blob.hex() for blob in _blob_files(tmp_path)} == {"aa" * 32, "cc" * 32}
