"""What keeps a reader's own mails on the reader's machine: a folder of their own, and no network while they are read."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from effnotes.core.files import user_path

VARIABLE = "EFFNOTES_PRIVATE"
"""Environment variable that names the folder in which everything made of a reader's own mails is kept."""

_DEFAULT = "~/.local/share/effnotes/private"
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}


def private_folder() -> Path:
    """Return the folder for what is made of private mails, which only its owner may enter; it is made where it is missing.

    Raises:
        ValueError: It lies in a git working tree, where a commit would publish it, or cannot be made.
    """
    folder = user_path(os.environ.get(VARIABLE) or _DEFAULT).resolve()
    repository = next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)
    if repository is not None:
        raise ValueError(
            f"{VARIABLE}={str(folder)!r}: lies in the git repository {str(repository)!r}, which could publish what your mails are"
            " made into; name a folder outside of any"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        raise ValueError(f"{VARIABLE}={str(folder)!r}: cannot be made a folder of yours alone ({error.strerror})") from None
    return folder


@contextlib.contextmanager
def kept_private() -> Iterator[None]:
    """Keep results of jobs, and models, in the private folder within the block, and tell libraries to stay off the network."""
    wanted = {"EFFNOTES_CACHE_DIR": str(private_folder() / "cache"), **_OFFLINE}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    """Refuse every connection of this process within the block."""

    def refuse(*_: Any) -> None:
        raise OSError("no connection is made while private mails are in memory")

    with contextlib.ExitStack() as stack:
        for name in ("connect", "connect_ex"):
            before = getattr(socket.socket, name)
            setattr(socket.socket, name, refuse)
            stack.callback(setattr, socket.socket, name, before)
        yield
