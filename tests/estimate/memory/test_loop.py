"""A recorded step repeated as a loop: closed forms on traces made by hand, and invariants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchgauge.estimate.memory.allocator import AllocatorSettings, replay
from torchgauge.estimate.memory.loop import Loop, repeat
from torchgauge.estimate.memory.workspaces import Platform, Workspaces
from torchgauge.facts.scenario import Scenario, ZeroGrad
from torchgauge.facts.trace import (
    Execution,
    OpRecord,
    Phase,
    Role,
    StorageEvent,
    StorageRecord,
    Trace,
)

PARAMETER, GRADIENT, STATE, BATCH, HIDDEN, OUTPUT, LOSS, SCRATCH = range(8)
SIZES = {
    PARAMETER: 1000, GRADIENT: 1001, STATE: 2000, BATCH: 300, HIDDEN: 50, OUTPUT: 70, LOSS: 4,
    SCRATCH: 9,
}  # fmt: skip
ROLES = {
    PARAMETER: Role.PARAMETER, GRADIENT: Role.GRADIENT, STATE: Role.OPTIMIZER_STATE,
    BATCH: Role.INPUT, HIDDEN: Role.SAVED_ACTIVATION, OUTPUT: Role.SAVED_ACTIVATION,
    LOSS: Role.SAVED_ACTIVATION, SCRATCH: Role.TEMPORARY,
}  # fmt: skip
FORWARD = [(HIDDEN, 0), (OUTPUT, 1)]
BACKWARD_BEGINS = 5
"""Events before it: parameter, batch, hidden, output, loss."""


def taking(trace: Trace, blocks: Callable[[OpRecord], tuple[int, ...]]) -> Workspaces:
    """Return the workspaces of a platform whose kernels take ``blocks`` of an operator."""
    rules = {op.name: lambda op, platform: blocks(op) for op in trace.ops}
    return Workspaces(rules=rules, platform=Platform(type="cpu"))


def make(
    storages: Sequence[tuple[int, Role, int]],
    events: Sequence[tuple[int, bool, int]],
    ends: Sequence[tuple[Phase, int]],
    *,
    host: frozenset[int] = frozenset(),
    writes: Mapping[int, tuple[int, ...]] = MappingProxyType({}),
    **scenario: object,
) -> Trace:
    """Return a trace of ``(nbytes, role, op)`` and ``(storage, is_free, op)``.

    ``writes`` says by op of the backward which storages it writes.
    """
    count = 1 + max((op for *_, op in events), default=-1)
    return Trace(
        torch_version="2.13",
        execution=Execution.SIMULATED,
        model_name="model",
        scenario=Scenario(**({"mode": "training"} | scenario)),
        modules=(),
        ops=tuple(
            OpRecord(
                index=i, name=f"op{i}", args=(), kwargs=(), outputs=(), call=-1,
                phase=Phase.BACKWARD if i in writes else Phase.FORWARD, writes=writes.get(i, ()),
            )
            for i in range(count)
        ),
        storages=tuple(
            StorageRecord(
                index=i, nbytes=nbytes, role=role, label="", op=op, call=-1, is_host=i in host
            )
            for i, (nbytes, role, op) in enumerate(storages)
        ),
        events=tuple(StorageEvent(storage=s, is_free=f, op=o) for s, f, o in events),
        phase_ends=tuple(ends),
    )  # fmt: skip


def step(zero_grad: ZeroGrad = ZeroGrad.BEFORE_FORWARD, **changes: object) -> Trace:
    """Return a training step: hidden, output, loss, gradient, state with a scratch block."""
    events = [
        (PARAMETER, False, -1), (BATCH, False, -1),
        (HIDDEN, False, 0), (OUTPUT, False, 1), (LOSS, False, 2),
        (HIDDEN, True, 3), (GRADIENT, False, 3),
        (SCRATCH, False, 4), (STATE, False, 5), (SCRATCH, True, 6),
    ]  # fmt: skip
    born = {storage: op for storage, is_free, op in events if not is_free}
    storages = [(SIZES[i], ROLES[i], born[i]) for i in range(len(SIZES))]
    ends = [(Phase.FORWARD, 4), (Phase.LOSS, 5), (Phase.BACKWARD, 7), (Phase.OPTIMIZER, 10)]
    return make(storages, events, ends, zero_grad=zero_grad, **changes)


def live_after(loop: Loop) -> list[int]:
    """Return the bytes alive after each event; a wrong free raises."""
    alive: dict[int, int] = {}
    live = []
    for is_free, key, nbytes in loop.events:
        if is_free:
            del alive[key]
        else:
            assert key not in alive
            alive[key] = nbytes
        live.append(sum(alive.values()))
    return live


def at(loop: Loop, number: int, storage: int, *, is_free: bool = False) -> int:
    """Return the place in a step of the event of a storage (of the trace)."""
    start, end = bounds(loop, number)
    found = [
        i for i in range(start, end) if loop.storages[i] == storage and loop.events[i][0] is is_free
    ]
    assert len(found) == 1, found
    return found[0]


def bounds(loop: Loop, number: int) -> tuple[int, int]:
    ends = [*loop.starts[1:], len(loop.events)]
    return loop.starts[number], ends[number]


def total(*storages: int) -> int:
    return sum(SIZES[storage] for storage in storages)


def test_one_step_is_the_trace() -> None:
    trace = step()
    loop = repeat(trace, 1)
    assert [(is_free, nbytes) for is_free, _, nbytes in loop.events] == [
        (event.is_free, trace.storages[event.storage].nbytes) for event in trace.events
    ]
    assert live_after(loop)[-1] == total(PARAMETER, BATCH, OUTPUT, LOSS, GRADIENT, STATE)


def test_states_are_made_once() -> None:
    loop = repeat(step(), 3)
    for storage in (PARAMETER, STATE):
        assert [loop.events[i][0] for i, s in enumerate(loop.storages) if s == storage] == [False]
        assert loop.storages.index(storage) < loop.starts[1]


def test_the_next_batch_is_there_before_the_last_one_goes() -> None:
    loop = repeat(step(), 2)
    live = live_after(loop)
    start = loop.starts[1]
    assert loop.storages[start : start + 2] == [BATCH, BATCH]
    assert [event[0] for event in loop.events[start : start + 2]] == [False, True]
    assert live[start] == live[start - 1] + SIZES[BATCH]
    assert live[start + 1] == live[start - 1]


def test_the_output_lives_until_the_next_forward_ends() -> None:
    loop = repeat(step(), 3)
    for number in (1, 2):
        made, freed = at(loop, number, OUTPUT), at(loop, number, OUTPUT, is_free=True)
        assert made < freed < at(loop, number, GRADIENT)
        assert freed < at(loop, number, LOSS)  # its forward has ended, the loss has not begun
        assert freed < at(loop, number, LOSS, is_free=True)


@pytest.mark.parametrize("zero_grad", [ZeroGrad.BEFORE_FORWARD, ZeroGrad.BEFORE_BACKWARD])
def test_gradients_live_until_they_are_set_to_none(zero_grad: ZeroGrad) -> None:
    loop = repeat(step(zero_grad), 3)
    live = live_after(loop)
    constant = total(PARAMETER, STATE, BATCH)
    kept = SIZES[GRADIENT] if zero_grad is ZeroGrad.BEFORE_BACKWARD else 0
    for number in (1, 2):
        freed = at(loop, number, GRADIENT, is_free=True)
        assert (freed < at(loop, number, HIDDEN)) == (kept == 0)
        assert freed < at(loop, number, GRADIENT)
        hidden = live[at(loop, number, HIDDEN)]
        assert hidden == constant + kept + total(OUTPUT, LOSS, HIDDEN)
        backward = live[at(loop, number, GRADIENT)]
        assert backward == constant + total(OUTPUT, LOSS, GRADIENT)


def test_gradients_that_are_never_freed_are_made_once() -> None:
    events = [(0, False, -1), (1, False, -1), (2, False, -1), (3, False, 0), (3, True, 1)]
    storages = [
        (10, Role.PARAMETER, -1), (11, Role.GRADIENT, -1), (5, Role.INPUT, -1),
        (7, Role.TEMPORARY, 0),
    ]  # fmt: skip
    trace = make(storages, events, [(Phase.FORWARD, 4)], zero_grad="set-to-zero")
    loop = repeat(trace, 4)
    assert loop.storages.count(1) == 1
    assert max(live_after(loop)[loop.starts[1] :]) == 10 + 11 + 5 + max(5, 7)


def test_gradients_that_are_never_freed_are_made_by_the_first_backward() -> None:
    """The first backward keeps the block that it computed; later ones add it and free it."""
    events = [
        (0, False, -1), (1, False, -1), (2, False, -1), (3, False, 0), (4, False, 1),
        (4, True, 3), (3, True, 3),
    ]  # fmt: skip
    storages = [
        (10, Role.PARAMETER, -1), (11, Role.GRADIENT, -1), (5, Role.INPUT, -1),
        (7, Role.SAVED_ACTIVATION, 0), (11, Role.TEMPORARY, 1),
    ]  # fmt: skip
    ends = [(Phase.FORWARD, 4), (Phase.LOSS, 4), (Phase.BACKWARD, 7)]
    adds = {2: (1,)}  # op 2 adds the fresh gradient to the kept one
    trace = make(storages, events, ends, zero_grad="set-to-zero", writes=adds)
    loop = repeat(trace, 2)
    live = live_after(loop)
    first, second = bounds(loop, 0), bounds(loop, 1)
    forward = [live[at(loop, number, 3)] for number in (0, 1)]
    assert forward[1] - forward[0] == 11
    assert max(live[slice(*first)]) == 10 + 5 + 7 + 11
    assert live[first[1] - 1] == 10 + 11 + 5
    assert max(live[slice(*second)]) == 10 + 11 + 5 + 7 + 11


def test_every_later_step_is_like_the_second() -> None:
    loop = repeat(step(), 4)
    live = live_after(loop)
    steps = [live[start:end] for start, end in (bounds(loop, n) for n in (1, 2, 3))]
    assert steps[0] == steps[1] == steps[2]


def test_what_lies_in_main_memory_is_left_out() -> None:
    trace = step()
    hidden = make(
        [(s.nbytes, s.role, s.op) for s in trace.storages],
        [(e.storage, e.is_free, e.op) for e in trace.events],
        trace.phase_ends,
        host=frozenset({STATE, OUTPUT, BATCH}),
    )
    loop = repeat(hidden, 3)
    assert not {STATE, OUTPUT, BATCH} & set(loop.storages)
    assert {PARAMETER, HIDDEN, GRADIENT} <= set(loop.storages)


def test_workspaces_are_taken_and_given_back_inside_their_op() -> None:
    loop = repeat(step(), 2, taking(step(), lambda op: (64, 32) if op.index == 3 else ()))
    for number in (0, 1):
        places = [i for i in range(*bounds(loop, number)) if loop.storages[i] < 0]
        assert [loop.events[i][0] for i in places] == [False, False, True, True]
        assert [loop.events[i][2] for i in places[:2]] == [64, 32]
        assert {loop.origins[i] for i in places} == {3}
        # After what op 3 has made, before what op 4 makes.
        assert at(loop, number, GRADIENT) < places[0]
        assert places[-1] < at(loop, number, SCRATCH)
    without = live_after(repeat(step(), 2))
    assert live_after(loop)[-1] == without[-1]


def test_a_workspace_of_the_last_op_and_of_one_without_events() -> None:
    trace = step()
    trace = make(
        [(s.nbytes, s.role, s.op) for s in trace.storages],
        [(e.storage, e.is_free, e.op) for e in trace.events],
        trace.phase_ends,
    )
    loop = repeat(trace, 1, taking(trace, lambda op: (5,) if op.index == 6 else ()))
    assert [event[2] for event in loop.events[-2:]] == [5, 5]


def test_lasting_workspaces_are_taken_once() -> None:
    loop = repeat(step(), 3, lasting={0: 4096})
    places = [i for i, storage in enumerate(loop.storages) if storage < 0]
    assert len(places) == 1 and loop.events[places[0]][2] == 4096
    assert loop.origins[places[0]] == 0
    assert live_after(loop)[-1] == live_after(repeat(step(), 3))[-1] + 4096


def test_a_batch_that_the_model_lets_go_is_not_freed_again() -> None:
    events = [(0, False, -1), (1, False, 0), (0, True, 1), (1, True, 1)]
    storages = [(8, Role.INPUT, -1), (4, Role.TEMPORARY, 0)]
    loop = repeat(make(storages, events, [(Phase.FORWARD, 2)]), 3)
    assert live_after(loop)[-1] == 0
    assert sum(not event[0] for event in loop.events) == 6


def test_what_was_there_before_and_is_replaced_goes_once() -> None:
    events = [(0, False, -1), (1, False, 0), (0, True, 1)]
    storages = [(8, Role.TEMPORARY, -1), (8, Role.TEMPORARY, 0)]
    loop = repeat(make(storages, events, [(Phase.FORWARD, 2)]), 3)
    assert [loop.storages.count(i) for i in (0, 1)] == [2, 5]
    assert live_after(loop)[-1] == 8


def test_what_is_gone_before_the_step_never_comes() -> None:
    events = [(0, False, -1), (0, True, -1), (1, False, 0)]
    storages = [(8, Role.TEMPORARY, -1), (4, Role.TEMPORARY, 0)]
    assert 0 not in repeat(make(storages, events, [(Phase.FORWARD, 3)]), 2).storages


def test_a_step_that_allocates_nothing() -> None:
    trace = make([(8, Role.PARAMETER, -1)], [(0, False, -1)], [(Phase.FORWARD, 1)])
    assert repeat(trace, 3).events == [(False, 0, 8)]


def test_an_inference_keeps_its_output_until_the_next_one() -> None:
    events = [(0, False, -1), (1, False, 0)]
    storages = [(8, Role.INPUT, -1), (100, Role.OUTPUT, 0)]
    trace = make(storages, events, [(Phase.FORWARD, 2)], mode="inference")
    assert max(live_after(repeat(trace, 3))) == 8 + 200


# ---------------------------------------------------------------------------- invariants


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Return a trace such as a recorder writes: each storage made once, freed at most once."""
    count = draw(st.integers(0, 8))
    storages, moments = [], []
    for index in range(count):
        born = draw(st.integers(-1, 6))
        role = draw(st.sampled_from(list(Role)))
        storages.append((draw(st.integers(0, 4 << 20)), role, born))
        moments.append((born, 1, index, False))
        if draw(st.booleans()):
            moments.append((draw(st.integers(born + 1, 8)), 0, index, True))
    events = [(index, is_free, op) for op, _, index, is_free in sorted(moments)]
    first = sum(op < 0 for *_, op in events)
    ends = sorted(draw(st.lists(st.integers(first, len(events)), min_size=4, max_size=4)))
    phases = (Phase.FORWARD, Phase.LOSS, Phase.BACKWARD, Phase.OPTIMIZER)
    return make(
        storages, events, list(zip(phases, ends, strict=True)),
        host=frozenset(draw(st.sets(st.integers(0, 8)))),
        zero_grad=draw(st.sampled_from(list(ZeroGrad))),
    )  # fmt: skip


@given(traces(), st.integers(1, 4), st.lists(st.integers(0, 1 << 20), max_size=2))
def test_any_loop_replays(trace: Trace, steps: int, blocks: list[int]) -> None:
    scratch = taking(trace, lambda op: tuple(blocks) if op.index % 2 else ())
    loop = repeat(trace, steps, scratch, lasting={0: 512})
    live = live_after(loop)  # raises for a free of what is not there
    assert len(loop.starts) == steps
    lengths = {len(loop.events), len(loop.origins), len(loop.storages), len(live)}
    assert len(lengths) == 1
    assert not any(trace.storages[s].is_host for s in loop.storages if s >= 0)
    result = replay(loop.events, AllocatorSettings())
    assert result.out_of_memory is None
    assert max(live, default=0) <= result.peak_allocated_bytes <= result.peak_reserved_bytes


@given(traces(), st.integers(2, 4))
def test_later_steps_add_nothing(trace: Trace, steps: int) -> None:
    """Memory does not grow from step to step."""
    live = live_after(repeat(trace, steps))
    shorter = live_after(repeat(trace, steps + 1))
    assert (live[-1:] or [0]) == (shorter[-1:] or [0])
