"""Which module of one report is which of the other: by path, then by shape and position."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from difflib import Match, SequenceMatcher
from itertools import accumulate

from torchgauge.facts.report import ModuleReport, Report

_MOST_LOOKS = 5_000_000
"""Above this many looks at pairs of equal modules, what is left is paired in its order alone."""

Key = Callable[[ModuleReport], Hashable]


def matched(before: Report, after: Report) -> dict[str, str]:
    """Return the paths of modules that are the same one, from before to after.

    The order of the rules: same path and type; same type, parameters and output in the same order
    (a rename, or layers that moved up); the same wherever it stands (a move); then the same
    without the output's shape; at last the same path, whatever it has become.
    """
    matching = _Matching(before.modules, after.modules)
    matching.pair(path for path in before.modules if _same_type(before, after, path))
    for key in (_whole, _owned):
        matching.align(key)
        matching.collect(key)
    matching.pair(path for path in before.modules if path in after.modules)
    return {path: matching.found[path] for path in before.modules if path in matching.found}


def _same_type(before: Report, after: Report, path: str) -> bool:
    other = after.modules.get(path)
    return other is not None and other.type == before.modules[path].type


def _owned(module: ModuleReport) -> Hashable:
    own = tuple((item.shape, item.dtype, item.is_buffer) for item in module.own_parameters)
    return module.type, module.params, own


def _whole(module: ModuleReport) -> Hashable:
    outputs = module.calls[0].outputs if module.calls else ()
    shapes = tuple(value.tensor.shape for value in outputs if value.tensor is not None)
    return _owned(module), len(module.calls), shapes


class _Bounded(SequenceMatcher[Hashable]):
    """``diff`` of two lists that finds no more blocks once it has looked at too many pairs.

    It takes the longest block first. Many equal items in many blocks would take minutes.
    """

    def __init__(self, left: Sequence[Hashable], right: Sequence[Hashable]) -> None:
        super().__init__(a=left, b=right, autojunk=False)
        often = Counter(right)
        self._looks = [0, *accumulate(often[key] for key in left)]
        self._left = _MOST_LOOKS

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> Match:
        """Return the longest block between these places, an empty one when the looks are used."""
        self._left -= self._looks[-1 if ahi is None else ahi] - self._looks[alo]
        if self._left < 0:
            return Match(alo, blo, 0)
        return super().find_longest_match(alo, ahi, blo, bhi)


class _Matching:
    def __init__(
        self, before: Mapping[str, ModuleReport], after: Mapping[str, ModuleReport]
    ) -> None:
        self.before, self.after = before, after
        self.found: dict[str, str] = {}
        self._taken: set[str] = set()

    def pair(self, paths: Iterable[str]) -> None:
        """Pair what has the same path in both and no partner yet."""
        for path in paths:
            if path not in self.found and path not in self._taken:
                self._add(path, path)

    def align(self, key: Key) -> None:
        """Pair what is equal and in the same order, as ``diff`` does with lines."""
        left, right = self._left()
        if not left or not right:
            return
        keys = [key(self.before[path]) for path in left], [key(self.after[path]) for path in right]
        matcher = _Bounded(*keys)
        for block in matcher.get_matching_blocks():
            for place in range(block.size):
                self._add(left[block.a + place], right[block.b + place])

    def collect(self, key: Key) -> None:
        """Pair what is equal, in its order, wherever it stands."""
        left, right = self._left()
        waiting: defaultdict[Hashable, deque[str]] = defaultdict(deque)
        for path in right:
            waiting[key(self.after[path])].append(path)
        for path in left:
            if same := waiting[key(self.before[path])]:
                self._add(path, same.popleft())

    def _left(self) -> tuple[list[str], list[str]]:
        before = [path for path in self.before if path not in self.found]
        return before, [path for path in self.after if path not in self._taken]

    def _add(self, before: str, after: str) -> None:
        self.found[before] = after
        self._taken.add(after)
