"""Take the paths of a machine out of what a run returns: records and pages are shown to others."""

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from effnotes.core.files import folders_under
from effnotes.runner.parameters import texts

Replacements = list[tuple[str, str]]


def private_paths(directory: str | None, cache_dir: str | None, parameters: Sequence[Mapping[str, Any]]) -> Replacements:
    """Return the paths of this machine that must not be shown, longest first, each with what is shown instead.

    Args:
        directory: working directory of the kernel.
        cache_dir: where it keeps finished parts.
        parameters: of the run; absolute paths among their values, and what links in them lead to, are shown by their last part, and
            the text of one whose help begins with "private:" by its digest.
    """
    paths = {
        os.path.expanduser("~"): "~",  # noqa: PTH111 - Path.home() raises where no home is known, as in some containers
        tempfile.gettempdir(): "<temporary directory>",
        sys.prefix: "<environment>",
        sys.base_prefix: "<python>",
        str(Path(__file__).parents[1]): "effnotes",
    }
    paths |= {path: shown for path, shown in ((directory, "."), (cache_dir, "<cache>")) if path}
    paths |= {os.path.realpath(path): shown for path, shown in paths.items()}
    base = os.path.realpath(directory or os.curdir)
    for given in (text for parameter in parameters for text in texts(parameter["value"])):
        place = os.path.join(base, os.path.expanduser(given))  # noqa: PTH111, PTH118
        if Path(base).is_relative_to(os.path.realpath(place)):
            continue  # "." or "/": no path of data
        links = [true for *_, found in folders_under(place) for _, true in found]
        private = [path for path in map(os.path.realpath, [place, *links]) if not Path(path).is_relative_to(base)]
        given_as_path = [place, str(Path(place))] if Path(os.path.expanduser(given)).is_absolute() else []  # noqa: PTH111
        paths |= {path: f"…/{Path(path).name}" for path in [*private, *given_as_path]}
    pairs = [(path, shown) for path, shown in paths.items() if len(Path(path).parts) > 1]
    secrets = (
        text for parameter in parameters if str(parameter.get("help")).startswith("private:") for text in texts(parameter["value"])
    )
    pairs += [(secret, f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}") for secret in secrets if secret]
    return sorted(pairs, key=lambda pair: len(pair[0]), reverse=True)


def scrub_output(output: Any, replacements: Replacements) -> Any:
    """Scrub what an output says; pictures are left alone, as their base64 may hold the letters of a path by chance."""
    if "data" not in output:
        return scrub(output, replacements)
    readable = {kind: value for kind, value in output["data"].items() if not kind.startswith(("image/", "audio/", "video/"))}
    output["data"].update(scrub(readable, replacements))
    return output


def scrub(value: Any, replacements: Replacements) -> Any:
    """Replace each path in every text of `value`, where it stands as a whole prefix of path components."""
    if isinstance(value, dict):
        return type(value)({key: scrub(item, replacements) for key, item in value.items()})
    if isinstance(value, list):
        return [scrub(item, replacements) for item in value]
    if isinstance(value, str):
        for path, shown in replacements:
            value = re.sub(rf"(?<![\w.-]){re.escape(path)}(?![\w-]|\.\w)", shown.replace("\\", r"\\"), value)
    return value
