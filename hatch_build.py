"""What a wheel needs besides the repository: the browser's runtime, fetched from npm where npm is installed."""

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BrowserRuntime(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        from dmsynth.support.errors import DmsynthError
        from dmsynth.web.runtime import fetch

        try:
            fetch()
        except DmsynthError as error:
            self.app.display_warning(f"{error}; this wheel fetches it when `dmsynth export --web` first needs it")
