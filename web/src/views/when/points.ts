// The memory over the step as points to draw: fewer than a picture has columns, the peak kept.

import type { Model } from "../../model";
import type { Role } from "../../types";
import { ROLE_ORDER } from "../../words";

export type Axis = "operators" | "time";

export interface Band {
  phase: string;
  /** On the axis. */
  from: number;
  to: number;
  /** Its first and last operator. */
  first: number;
  last: number;
}

const COLUMNS = 700;

export class Points {
  readonly length: number;
  /** Roles that ever hold bytes; empty where the answer has no step. */
  readonly roles: Role[];
  readonly peak: number;
  private readonly starts: Float64Array | null;

  constructor(private readonly model: Model) {
    const { timeline } = this;
    this.length = timeline.length;
    const held = model.step?.memory.roles ?? {};
    const same = model.step?.memory.op.length === this.length;
    this.roles = same ? ROLE_ORDER.filter((role) => held[role]?.some((value) => value > 0)) : [];
    let peak = 0;
    for (let index = 1; index < this.length; index += 1) {
      if (timeline[index]!.live_bytes > timeline[peak]!.live_bytes) peak = index;
    }
    this.peak = peak;
    this.starts = startsOf(model, timeline);
  }

  get timeline() {
    return this.model.report.memory!.timeline;
  }

  get axes(): Axis[] {
    return this.starts ? ["operators", "time"] : ["operators"];
  }

  x(index: number, axis: Axis): number {
    return axis === "time" ? this.starts![index]! : this.timeline[index]!.op;
  }

  /** Where the picture ends: the last operator, or the end of the step. */
  end(axis: Axis): number {
    const last = this.x(this.length - 1, axis);
    return axis === "time" ? Math.max(last, this.model.report.time?.total_ms ?? 0) : last;
  }

  bytes(index: number, role: Role): number {
    return this.model.step!.memory.roles[role]![index]!;
  }

  total(index: number): number {
    return this.timeline[index]!.live_bytes;
  }

  /** The last point at or before a place on the axis. */
  at(x: number, axis: Axis): number {
    let low = 0;
    let high = this.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.x(middle, axis) <= x) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Of each column of the picture the first, the lowest and the highest point, in their order. */
  drawn(axis: Axis): number[] {
    if (this.length <= 3 * COLUMNS) return Array.from({ length: this.length }, (_, index) => index);
    const from = this.x(0, axis);
    const width = (this.end(axis) - from) / COLUMNS || 1;
    const found: number[] = [];
    let first = 0;
    while (first < this.length) {
      const column = Math.floor((this.x(first, axis) - from) / width);
      let [low, high, last] = [first, first, first];
      while (last + 1 < this.length && Math.floor((this.x(last + 1, axis) - from) / width) === column) {
        last += 1;
        if (this.total(last) > this.total(high)) high = last;
        if (this.total(last) < this.total(low)) low = last;
      }
      found.push(...[...new Set([first, low, high])].sort((a, b) => a - b));
      first = last + 1;
    }
    return found;
  }

  /** Where each phase begins and ends, by the operators themselves where they are known. */
  bands(axis: Axis): Band[] {
    const operators = this.model.step?.operators;
    if (!operators?.op.length) return this.roughBands(axis);
    const found: Band[] = [];
    const from = this.x(0, axis);
    operators.phase.forEach((phase, index) => {
      const name = this.model.step!.texts[phase]!;
      const last = found.at(-1);
      if (last?.phase === name) {
        last.last = operators.op[index]!;
        return;
      }
      const x = !found.length ? from : axis === "time" ? operators.start_ms[index]! : operators.op[index]!;
      if (last) last.to = x;
      found.push({ phase: name, from: x, to: x, first: operators.op[index]!, last: operators.op[index]! });
    });
    found.at(-1)!.to = this.end(axis);
    return found;
  }

  /** By the points alone: a phase begins where memory first changes in it. */
  private roughBands(axis: Axis): Band[] {
    const found: Band[] = [];
    this.timeline.forEach((point, index) => {
      const last = found.at(-1);
      const x = this.x(index, axis);
      if (last?.phase === point.phase) {
        last.to = x;
        last.last = point.op;
      } else {
        if (last) last.to = x;
        found.push({ phase: point.phase, from: x, to: x, first: point.op, last: point.op });
      }
    });
    const last = found.at(-1);
    if (last) last.to = this.end(axis);
    return found;
  }
}

/** When each point is, in milliseconds: the start of the operator that made it, or of the last before. */
function startsOf(model: Model, timeline: { op: number }[]): Float64Array | null {
  const operators = model.step?.operators;
  if (!operators?.start_ms.length) return null;
  const starts = new Float64Array(timeline.length);
  let at = -1;
  let latest = 0;
  timeline.forEach((point, index) => {
    while (at + 1 < operators.op.length && operators.op[at + 1]! <= point.op) {
      at += 1;
      latest = Math.max(latest, operators.start_ms[at]!);
    }
    starts[index] = latest;
  });
  return starts;
}
