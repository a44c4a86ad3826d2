// The layers of two models, matched by path: which changed, which are new, which are gone.

import type { CostName, Model, Part } from "../model";

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
export function layerChanges(before: Model, after: Model, cost: CostName): LayerChange[] {
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
  return found
    .filter((change) => change.kind !== "changed" || difference(change) || change.typeBefore !== change.typeAfter)
    .sort((one, other) => Math.abs(difference(other)) - Math.abs(difference(one)));
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
