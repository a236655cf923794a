"""Programs of the system, found past those of the same name that Python's packages bring."""

import os
import shutil
import sys
from pathlib import Path


def of_the_system(name: str) -> str | None:
    """Return the path of a program outside of this Python's own folder; None if there is none.

    pynetdicom installs a `storescp` and a `storescu` of its own, which take other options than DCMTK's.
    """
    own = Path(sys.executable).parent
    folders = [one for one in os.environ.get("PATH", os.defpath).split(os.pathsep) if Path(one) != own]
    return shutil.which(name, path=os.pathsep.join(folders))
