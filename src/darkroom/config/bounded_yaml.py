"""Read YAML within bounds, so that an untrusted file cannot use up time or memory."""

from copy import deepcopy
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError, MaxDepthExceededError
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import Node, ScalarNode

from darkroom.errors import ConfigError, quoted

# A complete params.yaml has ten kilobytes and two hundred values, and its search space is six levels deep.
MAX_BYTES = 64 << 10
MAX_VALUES = 3000
MAX_DEPTH = 20
# Characters and values that aliases stand for, all of them together.
MAX_ALIASED = 64 << 10
# No setting takes a whole number of more.
MAX_DIGITS = 40
# Characters of what the reader says.
MAX_REASON = 300
INT_TAG = "tag:yaml.org,2002:int"


def read_yaml(path: Path) -> Any:
    """Read one YAML 1.2 document. Raises ConfigError, in one line, if it is not there, not YAML, or beyond a bound."""
    text = _read_text(path)
    try:
        return deepcopy(_parse(text))
    # All but the first for a value that is none of its type, such as 2001-99-99.
    except (YAMLError, ValueError, LookupError, TypeError, AttributeError) as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        if isinstance(problem, MaxDepthExceededError):
            reason = f"nested more than {MAX_DEPTH} levels deep"
        elif isinstance(problem, YAMLError | ValueError):
            reason = str(getattr(problem, "problem", problem)).partition("\n")[0]
        else:
            reason = f"a value that does not fit its tag ({str(problem).partition(chr(10))[0]})"
        raise ConfigError(f"{path}{line}: not valid YAML: {reason[:MAX_REASON]}") from None


@lru_cache(maxsize=64)
def _parse(text: str) -> Any:
    """The same text is parsed once: it takes 40 ms, and a command may read its settings several times."""
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.Composer = _Composer
    yaml.Constructor = _Constructor
    return yaml.load(StringIO(text))


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ConfigError(f"{path}: not a file")  # a pipe would be waited for
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{path}: more than {MAX_BYTES >> 10} KiB, which no settings need")
        return content.decode()
    except FileNotFoundError:
        raise ConfigError(f"{path}: not found; run this in the project's root, where params.yaml is") from None
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be read ({(problem.strerror or str(problem)).lower()})") from None
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: not UTF-8 ({problem.reason} at byte {problem.start}); save it as UTF-8") from None


class _Composer(Composer):
    """Refuses aliases that expand to too much: each may name a list of ten others, and so on."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self._values = self._aliased = 0
        # Size and depth of each anchored node, by its identity.
        self._measured: dict[int, tuple[int, int]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            mark = self.parser.peek_event().start_mark
            raise ComposerError(None, None, f"more than {MAX_VALUES:,} values, which no settings need", mark)
        return super().compose_node(parent, index)

    def return_alias(self, a: Node) -> Node:
        size, depth = self._measure(a)
        self._aliased += size
        if self._aliased > MAX_ALIASED or self.depth + depth > MAX_DEPTH:
            raise ComposerError(None, None, "its aliases expand to too many values; write the values out", a.start_mark)
        return a

    def _measure(self, node: Node) -> tuple[int, int]:
        """Values and characters, and levels. Aliases inside have been measured before."""
        if id(node) not in self._measured:
            self._measured[id(node)] = (1, 1)  # of one that holds itself
            if isinstance(node, ScalarNode):
                size, depth = 1 + len(node.value), 1
            else:
                children = [each for value in node.value for each in (value if isinstance(value, tuple) else (value,))]
                inside = [self._measure(child) for child in children]
                size = 1 + sum(size for size, _ in inside)
                depth = 1 + max((depth for _, depth in inside), default=0)
            self._measured[id(node)] = (size, depth)
        return self._measured[id(node)]


class _Constructor(SafeConstructor):
    """Refuses integers with more digits than Python prints."""

    def construct_bounded_int(self, node: ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            said = quoted(node.value)
            raise ConstructorError(None, None, f"whole number of over {MAX_DIGITS} digits: {said}", node.start_mark)
        number: int = self.construct_yaml_int(node)
        return number


_Constructor.add_constructor(INT_TAG, _Constructor.construct_bounded_int)
