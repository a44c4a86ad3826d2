"""Which memory a new tensor gets, and when that was last used: a C library's heap in small.

glibc's ``malloc`` gives out the smallest free block that is large enough, joins neighbours that are
free, and grows the heap only where there is none (``malloc/malloc.c``: ``_int_malloc``). What a
layer makes therefore lies where layers before it had something that is no longer needed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort


class Heap:
    """Addresses in bytes from 0 on; times are whatever the caller counts."""

    def __init__(self) -> None:
        self.nbytes = 0
        """How large the heap has become."""
        self._taken: dict[int, tuple[int, int]] = {}
        """Begin and end of what each tensor has."""
        self._free: list[tuple[int, int]] = []
        """Size and begin of each free block, in that order."""
        self._begins: list[tuple[int, int]] = []
        """The same blocks by begin, with their ends."""
        self._starts: list[int] = []
        self._times: list[float | None] = []
        """Where stretches of one last use begin, and that use; ``None``: never."""

    def take(self, name: int, nbytes: int) -> list[tuple[int, float | None]]:
        """Give memory to a tensor; return the bytes of each part and when it was last used."""
        place = bisect_left(self._free, (nbytes, -1))
        if place < len(self._free):
            size, begin = self._free[place]
            self._remove(begin, begin + size)
            if size > nbytes:
                self._add(begin + nbytes, begin + size)
        else:
            begin = self.nbytes
            if self._begins and self._begins[-1][1] == self.nbytes:
                begin = self._begins[-1][0]  # the heap grows from its last free block on
                self._remove(*self._begins[-1])
            if begin + nbytes > self.nbytes:
                self._starts.append(self.nbytes)
                self._times.append(None)
                self.nbytes = begin + nbytes
        self._taken[name] = begin, begin + nbytes
        return self._uses(begin, begin + nbytes)

    def use(self, name: int, time: float) -> None:
        """Note that a tensor was used; nothing happens for one that lies elsewhere."""
        if name in self._taken:
            begin, end = self._taken[name]
            first, last = self._cut(begin), self._cut(end)
            self._starts[first:last] = [begin]
            self._times[first:last] = [time]

    def free(self, name: int) -> None:
        """Take a tensor's memory back, if it has some."""
        if name not in self._taken:
            return
        begin, end = self._taken.pop(name)
        place = bisect_left(self._begins, (begin, -1))
        if place < len(self._begins) and self._begins[place][0] == end:
            after = self._begins[place]
            self._remove(*after)
            end = after[1]
        if place > 0 and self._begins[place - 1][1] == begin:
            before = self._begins[place - 1]
            self._remove(*before)
            begin = before[0]
        self._add(begin, end)

    def free_all(self) -> None:
        """Take everything back."""
        for name in list(self._taken):
            self.free(name)

    def _add(self, begin: int, end: int) -> None:
        insort(self._free, (end - begin, begin))
        insort(self._begins, (begin, end))

    def _remove(self, begin: int, end: int) -> None:
        del self._free[bisect_left(self._free, (end - begin, begin))]
        del self._begins[bisect_left(self._begins, (begin, end))]

    def _cut(self, address: int) -> int:
        """Return the place of the stretch that begins at an address, which is made to."""
        place = bisect_left(self._starts, address)
        if place == len(self._starts) and address >= self.nbytes:
            return place
        if place == len(self._starts) or self._starts[place] != address:
            self._starts.insert(place, address)
            self._times.insert(place, self._times[place - 1])
        return place

    def _uses(self, begin: int, end: int) -> list[tuple[int, float | None]]:
        found = []
        place = bisect_right(self._starts, begin) - 1
        while place < len(self._starts) and self._starts[place] < end:
            after = self._starts[place + 1] if place + 1 < len(self._starts) else self.nbytes
            found.append((min(end, after) - max(begin, self._starts[place]), self._times[place]))
            place += 1
        return found
