"""Reading YAML that may be damaged or foreign: bounded in size, depth and aliases, without duplicate keys."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml

from guard_plugins.files import regular

LARGEST: Final = 100_000
"""Characters of the largest file; a run's configuration has about 3,000."""
DEEPEST: Final = 20
"""Levels of the deepest nesting; a configuration has three."""
MOST: Final = 3_000
"""Values of the largest file once its aliases are written out."""
LONGEST: Final = 1024
"""Bits of the largest whole number."""


def read_yaml(path: Path) -> Any:
    """Return the values in a YAML file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not UTF-8, or too large.
        yaml.YAMLError: If it is not YAML, repeats a key, is nested too deeply or grows too large by its aliases.
    """
    with regular(path).open("rb") as file:
        content = file.read(4 * LARGEST + 1)
    text = content.decode()
    if len(text) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} characters")
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, and count what it holds with every alias written out."""
        mark, again = self.peek_event().start_mark, self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"nested more than {DEEPEST} levels deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        if again and id(node) not in self._sizes:
            raise yaml.composer.ComposerError(None, None, "a value that contains itself", mark)
        if not again:
            self._sizes[id(node)] = 1 + sum(self._sizes[id(child)] for child in _children(node))
        if max(self._sizes[id(node)], len(self._sizes)) > MOST:
            raise yaml.composer.ComposerError(None, None, f"more than {MOST:,} values with its aliases", mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping whose keys are all different."""
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; one that Python cannot read is an error of the file."""
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
            raise yaml.constructor.ConstructorError(None, None, f"cannot be read: {error}", node.start_mark) from None
        if isinstance(value, int) and value.bit_length() > LONGEST:
            raise yaml.constructor.ConstructorError(None, None, "a number with too many digits", node.start_mark)
        return value


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
