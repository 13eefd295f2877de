"""An IPython extension by which a kernel tells its runner, after each cell, what it computes with and how the cell failed.

A kernel's own report of an error names its class alone, and only the kernel knows what that class derives from. A report may also
lack the line, as that of an unknown magic or of `SystemExit` does. And what cannot be encoded, or comes too fast, would be lost.
"""

import codecs
import json
from typing import Any

from effnotes.core.processes import device, tell


def load_ipython_extension(shell: Any) -> None:
    """Look at the outcome of each cell that `shell` runs; IPython calls this."""
    shell.events.register("post_run_cell", _tell_of_cell)
    # IPython's own `exit` ends the kernel at some time after the cell, when other cells may have run.
    shell.ask_exit = _leave
    codecs.register_error("effnotes.escape", _escape)
    shell.kernel.session.pack = _pack
    # Whatever is shown waits for who reads it; by default a kernel drops what is a thousand messages ahead. Longer queues
    # are of no use: a socket that is bound already gives them to no new reader. Only its own thread may touch the socket.
    thread = shell.kernel.iopub_thread
    thread.schedule(lambda: setattr(thread.socket, "xpub_nodrop", True))


def _tell_of_cell(result: Any) -> None:
    error = result.error_in_exec
    refusal = type(error).__name__ if isinstance(error, ValueError) else None
    # The first frame is that in which IPython runs the cell, the second the cell.
    traceback = error.__traceback__ and error.__traceback__.tb_next if error else None
    line = traceback.tb_lineno if traceback else getattr(result.error_before_exec, "lineno", None)
    inner = [f"{type(each).__name__}: {each}" for each in getattr(error, "exceptions", ())]  # of a group
    tell({"cell": {"device": device(), "refusal": refusal, "count": result.execution_count, "line": line, "inner": inner}})


def _leave() -> None:
    raise SystemExit


def _pack(message: Any) -> bytes:
    """Write a message as Jupyter does, with lone surrogates, such as stand in the names of files, as escapes."""
    from jupyter_client.jsonutil import json_default
    from jupyter_client.session import json_packer

    try:
        text = json.dumps(message, default=json_default, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        packed: bytes = json_packer(message)
        return packed
    return text.encode(errors="effnotes.escape")


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(f"\\\\u{ord(letter):04x}" for letter in error.object[error.start : error.end]), error.end
