// The module tree of an answer, with what each part costs alone and with everything below it.

import type { Answer, ModuleReport, OwnCosts, Report, Step } from "./types";

export type CostName = keyof OwnCosts;

export interface Part {
  index: number;
  path: string;
  /** Last piece of the path; the model's name for the root. */
  name: string;
  module: ModuleReport;
  parent: Part | null;
  children: Part[];
  /** How many equal siblings, this one included, where it is the first of a fold. */
  fold: number;
  /** It is one of the later ones of a fold. */
  folded: boolean;
}

export class Model {
  readonly report: Report;
  readonly step: Step | null;
  readonly parts: Part[];
  readonly root: Part;
  readonly byPath = new Map<string, Part>();
  readonly folds: number[][];
  private readonly groups = new Map<Part, { key: string; name: string }>();
  private readonly firstOf = new Map<number, number>();
  private readonly sums = new Map<CostName, Float64Array>();

  constructor(readonly answer: Answer) {
    this.report = answer.report;
    this.step = answer.step;
    this.folds = answer.folds;
    this.parts = this.report.modules.map((module, index) => ({
      index, path: module.path, name: module.path.slice(module.path.lastIndexOf(".") + 1) || this.report.model.name,
      module, parent: null, children: [], fold: 1, folded: false,
    }));
    for (const part of this.parts) this.byPath.set(part.path, part);
    this.root = this.byPath.get("")!;
    for (const part of this.parts) {
      if (part === this.root) continue;
      part.parent = this.enclosing(part.path);
      part.parent.children.push(part);
    }
    for (const fold of this.folds) {
      fold.forEach((index, place) => {
        const part = this.parts[index]!;
        this.firstOf.set(index, fold[0]!);
        if (place === 0) part.fold = fold.length;
        else part.folded = true;
      });
    }
  }

  /** The module that encloses a path: some models have holes in their names. */
  private enclosing(path: string): Part {
    let at = path;
    while (at) {
      at = at.includes(".") ? at.slice(0, at.lastIndexOf(".")) : "";
      const found = this.byPath.get(at);
      if (found) return found;
    }
    return this.root;
  }

  /** Equal modules, as folded, have the same key; the name has a star where they differ. */
  group(part: Part): { key: string; name: string } {
    let group = this.groups.get(part);
    if (group) return group;
    if (!part.parent) group = { key: "", name: part.name };
    else {
      const above = this.group(part.parent);
      const local = part.parent.path ? part.path.slice(part.parent.path.length + 1) : part.path;
      const first = this.firstOf.get(part.index);
      const name = first === undefined ? local : local.replace(/[^.]*$/, "*");
      const place = this.parts[first ?? part.index]!.path;
      const key = place.slice(place.lastIndexOf(".") + 1);
      group = { key: `${above.key}.${key}`, name: part.parent.path ? `${above.name}.${name}` : name };
    }
    this.groups.set(part, group);
    return group;
  }

  own(part: Part, name: CostName): number {
    return this.answer.own[name][part.index] ?? 0;
  }

  /** With everything below. Sums over disjoint parts give the model's total. */
  total(part: Part, name: CostName): number {
    let sums = this.sums.get(name);
    if (!sums) {
      sums = Float64Array.from(this.answer.own[name]);
      const order = [...this.parts].sort((a, b) => b.module.depth - a.module.depth);
      for (const one of order) {
        if (!one.parent) continue;
        const up = one.parent.index;
        const value = sums[one.index]!;
        sums[up] = name === "peak_allocated_bytes" ? Math.max(sums[up]!, value) : sums[up]! + value;
      }
      this.sums.set(name, sums);
    }
    return sums[part.index]!;
  }

  get hasRun(): boolean {
    return this.report.memory !== null;
  }
}
