"""Build hook of the package: installed to work on the book (``pip install -e``), it has JupyterLab open .py files as notebooks.

The environment of somebody who uses the library alone is left as it is.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class OpenChapters(BuildHookInterface):
    """Adds JupyterLab's setting to editable installations."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the file and where it goes in the environment."""
        if version == "editable":
            build_data["shared_data"]["jupyterlab.json"] = "share/jupyter/lab/settings/overrides.d/effnotes.json"
