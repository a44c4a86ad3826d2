// Operators one by one, or those of one name in one module together.

import type { Step } from "../../types";

export interface Operator {
  /** "aten.add layer1.0" or the place in the columns for a single one. */
  key: string;
  name: string;
  module: string;
  phases: string[];
  recompute: boolean;
  /** Places in the columns of step.operators. */
  places: number[];
  flops: number;
  elementwise: number;
  bytes: number;
  /** 0 where no time is predicted. */
  time: number;
  roof: number;
  kind: string;
  bound: string;
  inputs: string;
  outputs: string;
}

export interface Filter {
  /** Operators of the trace, both ends included. */
  range: readonly [number, number] | null;
  /** A module with everything below it; null for all. */
  module: string | null;
  text: string;
  phase: string;
}

/** Places of the operators that pass, in the order in which they ran. */
export function passing(step: Step, { range, module, text, phase }: Filter): number[] {
  const { operators, texts } = step;
  const below = module === null ? "" : `${module}.`;
  const inModule = module ? texts.map((path) => path === module || path.startsWith(below)) : null;
  const asked = text ? texts.map((one) => one.toLowerCase().includes(text)) : null;
  const found: number[] = [];
  operators.op.forEach((op, place) => {
    if (range && (op < range[0] || op > range[1])) return;
    if (inModule && !inModule[operators.module[place]!]) return;
    if (phase && texts[operators.phase[place]!] !== phase) return;
    if (asked && ![operators.name, operators.module, operators.kind].some((column) => asked[column[place] ?? -1])) return;
    found.push(place);
  });
  return found;
}

export function single(step: Step, place: number): Operator {
  const { operators: all, texts } = step;
  const text = (column: number[]): string => texts[column[place] ?? -1] ?? "";
  return {
    key: `${place}`, name: text(all.name), module: text(all.module), phases: [text(all.phase)], recompute: all.recompute[place]!, places: [place],
    flops: all.flops[place]!, elementwise: all.elementwise_flops[place]!, bytes: all.nbytes[place]!, time: all.time_ms[place] ?? 0, roof: all.roof_ms[place] ?? 0,
    kind: text(all.kind), bound: text(all.bound_by), inputs: text(all.inputs), outputs: text(all.outputs),
  };
}

export function grouped(step: Step, places: readonly number[]): Operator[] {
  const groups = new Map<number, Operator>();
  const bounds = new Map<Operator, Map<string, number>>();
  const { operators: all, texts } = step;
  for (const place of places) {
    const id = all.name[place]! * texts.length + all.module[place]!;
    let group = groups.get(id);
    if (!group) {
      group = { ...single(step, place), key: `group ${id}` };
      groups.set(id, group);
    } else {
      add(group, single(step, place));
    }
    const spent = bounds.get(group) ?? bounds.set(group, new Map()).get(group)!;
    const bound = texts[all.bound_by[place] ?? -1] ?? "";
    spent.set(bound, (spent.get(bound) ?? 0) + (all.time_ms[place] ?? 0));
  }
  // What most of the group's time goes to.
  for (const [group, spent] of bounds) group.bound = [...spent].sort((a, b) => b[1] - a[1])[0]![0];
  return [...groups.values()];
}

function add(group: Operator, one: Operator): void {
  group.places.push(one.places[0]!);
  group.flops += one.flops;
  group.elementwise += one.elementwise;
  group.bytes += one.bytes;
  group.time += one.time;
  group.roof += one.roof;
  if (!group.phases.includes(one.phases[0]!)) group.phases.push(one.phases[0]!);
  if (group.inputs !== one.inputs) group.inputs = "…";
  if (group.outputs !== one.outputs) group.outputs = "…";
  group.recompute &&= one.recompute;
}

export const work = (operator: Operator): number => operator.flops + operator.elementwise;

/** FLOPs per byte moved. */
export const intensity = (operator: Operator): number => (operator.bytes ? work(operator) / operator.bytes : 0);
