// The layers of two models: which changed, which are new, which are gone. In a file torchgauge has
// matched them, renamed and moved ones too; live, both are one model and have the same paths.

import type { CostName, Model, Part } from "../model";
import type { LayerDifference } from "../types";

export interface LayerChange {
  kind: "added" | "removed" | "changed";
  path: string;
  /** The part in the model that has it. */
  part: Part;
  typeBefore: string | null;
  typeAfter: string | null;
  /** How many equal neighbours it stands for, itself included. */
  times: number;
  /** What one of them owned and did itself; of an added or removed one with everything below. */
  before: number;
  after: number;
}

export const difference = ({ before, after, times }: LayerChange): number => (after - before) * times;

/**
 * Those that differ in a cost, the largest difference first. Their differences sum to that of the
 * models' own costs.
 */
export function layerChanges(before: Model, after: Model, cost: CostName, matched?: LayerDifference[]): LayerChange[] {
  const found = matched ? told(before, after, cost, matched) : walked(before, after, cost);
  return found
    .filter((change) => change.kind !== "changed" || difference(change) || change.typeBefore !== change.typeAfter)
    .sort((one, other) => Math.abs(difference(other)) - Math.abs(difference(one)));
}

/** What torchgauge has matched; equal layers whose names count up are one. A new name alone is no change. */
function told(before: Model, after: Model, cost: CostName, matched: LayerDifference[]): LayerChange[] {
  const found: LayerChange[] = [];
  let last: LayerDifference | undefined;
  for (const one of matched) {
    if (one.kind === "renamed") continue;
    const part = (one.path_after === null ? before.byPath.get(one.path_before!) : after.byPath.get(one.path_after))!;
    const change: LayerChange = {
      kind: one.kind, path: part.path, part, typeBefore: one.type_before, typeAfter: one.type_after, times: 1,
      before: one.before[cost] ?? 0, after: one.after[cost] ?? 0,
    };
    const run = found[found.length - 1];
    if (run && last && follows(last, one) && run.before === change.before && run.after === change.after) run.times += 1;
    else found.push(change);
    last = one;
  }
  return found;
}

function follows(last: LayerDifference, one: LayerDifference): boolean {
  const number = /^(.*?)(\d+)$/;
  const [was, is] = [last, one].map((layer) => number.exec(layer.path_after ?? layer.path_before!));
  const isNext = !!was && !!is && was[1] === is[1] && Number(is[2]) === Number(was[2]) + 1;
  return isNext && last.kind === one.kind && last.type_before === one.type_before && last.type_after === one.type_after;
}

function walked(before: Model, after: Model, cost: CostName): LayerChange[] {
  const found: LayerChange[] = [];
  const gone = (parts: Part[], times: number) => {
    for (const [part, number] of grouped(parts)) {
      const kind = "removed" as const;
      found.push({ kind, path: part.path, part, typeBefore: part.module.type, typeAfter: null, times: times * number, before: before.total(part, cost), after: 0 });
    }
  };
  const walk = (part: Part, old: Part, times: number) => {
    const [was, is] = [before.own(old, cost), after.own(part, cost)];
    if (was !== is || part.module.type !== old.module.type) {
      found.push({ kind: "changed", path: part.path, part, typeBefore: old.module.type, typeAfter: part.module.type, times, before: was, after: is });
    }
    const fresh: Part[] = [];
    const both: Part[] = [];
    for (const child of part.children) (before.byPath.has(child.path) ? both : fresh).push(child);
    for (const [child, number] of grouped(both, (one) => before.byPath.get(one.path)!.folded)) walk(child, before.byPath.get(child.path)!, times * number);
    for (const [child, number] of grouped(fresh)) {
      const kind = "added" as const;
      found.push({ kind, path: child.path, part: child, typeBefore: null, typeAfter: child.module.type, times: times * number, before: 0, after: after.total(child, cost) });
    }
    gone(old.children.filter((child) => !after.byPath.has(child.path)), times);
  };
  walk(after.root, before.root, 1);
  return found;
}

/** Neighbours that are equal, in this model and by `also` in the other, as one and their number. */
function grouped(parts: Part[], also: (part: Part) => boolean = () => true): [Part, number][] {
  const groups: [Part, number][] = [];
  for (const part of parts) {
    const last = groups[groups.length - 1];
    if (last && part.folded && also(part)) last[1] += 1;
    else groups.push([part, 1]);
  }
  return groups;
}
