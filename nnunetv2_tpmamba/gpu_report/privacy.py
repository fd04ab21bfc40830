"""Keep what tells of the user out of what is sent: names of user and machine, and folders."""

import getpass
import platform
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ABSOLUTE_PATH = re.compile(r"(?<![\w./>~\\-])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:'\"`,;()<>|]+[/\\])+(?=[^\s/\\])")
SHORTEST_NAME = 3  # characters; shorter names are also parts of ordinary text
ANYBODY = ("root", "localhost")


class Privacy:
    """Replaces known folders by a word, other absolute paths by their last part, names of user and machine by words.

    Args:
        folders: absolute paths of this program's own folders, and what to write instead.
    """

    def __init__(self, folders: Mapping[Path, str]) -> None:
        package = Path(__file__).parents[1]
        known = {Path(sys.base_prefix): "PYTHON", Path(sys.prefix): "PYTHON", package.parent: "PACKAGES", **folders}
        paths = {str(each): said for path, said in known.items() for each in (path, path.resolve())}
        innermost_first = sorted(paths.items(), key=lambda pair: len(pair[0]), reverse=True)
        names = {user_name(): "USER", platform.node(): "MACHINE", socket.gethostname(): "MACHINE"}
        names |= {name.partition(".")[0]: said for name, said in names.items()}
        told = {name: said for name, said in names.items() if len(name) >= SHORTEST_NAME and name not in ANYBODY}
        self._known = [(re.compile(rf"{re.escape(path)}(?![\w-])"), said) for path, said in innermost_first]
        self._known.append((re.compile(rf"{re.escape(str(Path.home()))}(?![\w/-])"), "HOME"))
        self._names = [(re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])"), said) for name, said in told.items()]

    def clean(self, text: str) -> str:
        """Return ``text`` without what tells of the user."""
        for pattern, said in self._known:
            text = pattern.sub(said, text)
        text = ABSOLUTE_PATH.sub(".../", text)
        for pattern, said in self._names:
            text = pattern.sub(said, text)
        return text

    def cleaned(self, content: Any) -> Any:
        """Clean all texts in nested lists and dicts, names of entries included."""
        if isinstance(content, str):
            return self.clean(content)
        if isinstance(content, dict):
            return {self.clean(str(name)): self.cleaned(value) for name, value in content.items()}
        if isinstance(content, list | tuple):
            return [self.cleaned(value) for value in content]
        return content


def user_name() -> str:
    """The name of the user; "" in a container whose user has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
