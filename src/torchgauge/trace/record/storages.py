"""Storage lifetimes: who allocated which block of memory, and when the last tensor let go."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch

from torchgauge.facts.trace import Role, StorageEvent, StorageRecord
from torchgauge.trace.failures.out_of_memory import RealRunStopped
from torchgauge.trace.inspect.code_lines import code_line
from torchgauge.trace.torch_internals.tensors import storage_key

_CODE_FROM = 64 * 1024
"""Bytes from which on the line of code that made a storage is noted: looking takes time."""


class _StorageRef(weakref.ref[torch.UntypedStorage]):
    """A weak reference that knows which storage it stood for."""

    __slots__ = ("index", "key")
    index: int
    key: int


class StorageTracker:
    """Follow storages by weak reference and keep the order of their births and deaths.

    A storage is known by the address of its C++ object while it lives; each gets a number in
    order of appearance. PyTorch keeps one Python object per live storage, so a weak reference
    dies exactly when the last tensor on it does.
    """

    def __init__(self) -> None:
        self.live: dict[int, int] = {}
        self.events: list[tuple[int, bool, int]] = []
        """``(storage, is_free, op)``; see ``StorageEvent``."""
        self.op = 0
        """Index of the op that runs now or next; the recorder keeps it."""
        self.limit_bytes: int | None = None
        """Where a real run is stopped, before the machine runs out of memory."""
        self._live_bytes = 0
        self._refs: dict[int, _StorageRef] = {}
        self._stand_ins: dict[int, int] = {}
        """How many other storages stand for one, by its number."""
        self._facts: list[tuple[int, int, int]] = []  # nbytes, op, call
        self._code: dict[int, str] = {}
        self._roles: dict[int, Role] = {}
        self._labels: dict[int, str] = {}
        self._host: set[int] = set()
        self._let_go: dict[int, list[torch.Tensor]] = {}
        """Tensors that are let go of as soon as a storage is."""

    @property
    def count(self) -> int:
        """Return how many storages were seen: the number of the next one."""
        return len(self._facts)

    def index_of(self, tensor: torch.Tensor, call: int) -> int:
        """Return the number of the tensor's storage; a storage not seen before is a new block."""
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        index = self.live.get(key)
        return self._add(storage, key, self.op, call) if index is None else index

    def made_at(self, tensor: torch.Tensor) -> int:
        """Return the op that made the tensor's storage, -1 where none did."""
        index = self.live.get(storage_key(tensor.untyped_storage()))
        return -1 if index is None else self._facts[index][1]

    def note_kept(self, tensor: torch.Tensor, call: int) -> None:
        """Note a tensor that autograd keeps of the last operator, which no operator returned.

        It counts from the next operator on: the last has it in its scratch memory.
        """
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        if key in self.live:
            return
        index = self._note(storage.nbytes(), self.op, call)
        self._live_bytes += storage.nbytes()
        self._follow(storage, key, index)

    def register(self, tensor: torch.Tensor, role: Role, label: str) -> int:
        """Note a tensor that existed before the step, or learn the role of one that is alive."""
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        index = self.live.get(key)
        if index is None:
            index = self._add(storage, key, -1, -1)
        self.set_role(index, role, label)
        return index

    def stand_in(self, stand_in: torch.Tensor, original: torch.Tensor) -> None:
        """Count a stand-in for a tensor that is followed itself as that one, once.

        What an operator leaves on the CPU, such as the batch sizes of packed sequences, has a copy
        on the meta device as soon as another operator takes it.
        """
        storage = stand_in.untyped_storage()
        key = storage_key(storage)
        index = self.live.get(storage_key(original.untyped_storage()))
        if index is not None and key not in self.live:
            self._follow(storage, key, index)
            self._stand_ins[index] = self._stand_ins.get(index, 0) + 1

    def note_size(self, tensor: torch.Tensor, call: int) -> None:
        """Note a storage that has been given another size: a new block, with the old one's role."""
        storage = tensor.untyped_storage()
        key = storage_key(storage)
        old = self.live.get(key)
        if old is None or self._facts[old][0] == storage.nbytes():
            return
        self._refs.pop(key, None)
        self._live_bytes -= self._facts[old][0]
        new = self._add(storage, key, self.op, call)
        self.events.append((old, True, self.op))
        if old in self._roles:
            self.set_role(new, self._roles[old], self._labels.get(old, ""))

    def register_bytes(self, nbytes: int, role: Role, label: str) -> None:
        """Note memory that is there throughout the step, in an object that is not a tensor."""
        self.set_role(self._note(nbytes, -1, -1), role, label)

    def note_workspace(self, nbytes: int, call: int) -> None:
        """Note memory that the kernel that runs now took for itself and gave back."""
        index = self._note(nbytes, self.op, call)
        self.set_role(index, Role.WORKSPACE)
        self.events.append((index, True, self.op))

    def set_role(self, index: int, role: Role, label: str = "") -> None:
        """Give a storage its role; the first role stays, so tied weights remain parameters."""
        self._roles.setdefault(index, role)
        if label:
            self._labels.setdefault(index, label)

    def set_host(self, index: int) -> None:
        """Note that a storage lies in host memory."""
        self._host.add(index)

    def alive(self) -> set[int]:
        """Return the numbers of all storages alive now."""
        return set(self.live.values())

    def check_limit(self) -> None:
        """Stop a run that holds more than it may.

        Raises:
            RealRunStopped: when it does.
        """
        if self.limit_bytes is not None and self._live_bytes > self.limit_bytes:
            raise RealRunStopped(self._live_bytes)

    def stop(self) -> None:
        """Forget the weak references: what is freed from now on is not part of the step."""
        self._refs.clear()
        self.live.clear()

    def records(self, op_names: Callable[[int], str]) -> tuple[StorageRecord, ...]:
        """Return one record per storage, in order of appearance."""
        temporary = Role.TEMPORARY
        roles, labels = self._roles, self._labels
        return tuple([
            StorageRecord(
                index=index,
                nbytes=nbytes,
                role=roles.get(index, temporary),
                label=labels.get(index) or (op_names(op) if op >= 0 else ""),
                op=op,
                call=call,
                is_host=index in self._host,
                code=self._code.get(index, ""),
            )
            for index, (nbytes, op, call) in enumerate(self._facts)
        ])  # fmt: skip

    def event_records(self) -> tuple[StorageEvent, ...]:
        """Return the births and deaths in order."""
        return tuple([
            StorageEvent(storage=storage, is_free=is_free, op=op)
            for storage, is_free, op in self.events
        ])  # fmt: skip

    def let_go(self, tensors: list[torch.Tensor], before: torch.Tensor | None = None) -> None:
        """Let go of tensors in order, where ``before`` is given just before that one is freed."""
        for waiting in list(self._let_go.values()):
            _drop(waiting)
        self._let_go.clear()
        index = None if before is None else self.live.get(storage_key(before.untyped_storage()))
        if index is None:
            _drop(tensors)
        else:
            self._let_go[index] = tensors

    def _add(self, storage: torch.UntypedStorage, key: int, op: int, call: int) -> int:
        nbytes = storage.nbytes()
        index = len(self._facts)
        self._facts.append((nbytes, op, call))
        self.events.append((index, False, op))
        if nbytes >= _CODE_FROM and op >= 0:
            self._code[index] = code_line()
        self._live_bytes += nbytes
        self.live[key] = index
        ref = self._refs[key] = _StorageRef(storage, self._freed)
        ref.index, ref.key = index, key
        return index

    def _follow(self, storage: torch.UntypedStorage, key: int, index: int) -> None:
        ref = _StorageRef(storage, self._freed)
        ref.index, ref.key = index, key
        self.live[key] = index
        self._refs[key] = ref

    def _note(self, nbytes: int, op: int, call: int) -> int:
        index = len(self._facts)
        self._facts.append((nbytes, op, call))
        self.events.append((index, False, op))
        return index

    def _freed(self, ref: weakref.ref[torch.UntypedStorage]) -> None:
        assert isinstance(ref, _StorageRef)
        if self._refs.get(ref.key) is not ref:
            return
        if ref.index in self._let_go:
            _drop(self._let_go.pop(ref.index))
        del self._refs[ref.key], self.live[ref.key]
        if self._stand_ins.get(ref.index):
            self._stand_ins[ref.index] -= 1
            return
        self._live_bytes -= self._facts[ref.index][0]
        self.events.append((ref.index, True, self.op))


def _drop(tensors: list[torch.Tensor]) -> None:
    """Let go of the tensors in a list, the first one first."""
    tensors.reverse()
    while tensors:
        tensors.pop()
