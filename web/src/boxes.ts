// The module tree as pictures show it: equal neighbours are one box, which stands for all of them.

import type { CostName, Model, Part } from "./model";

export interface Box {
  /** The modules that it stands for: one, or the equal ones of a fold and of the folds around it. */
  parts: Part[];
  /** Sum over all of them, with everything below. */
  value: number;
  /** Of these, what they do themselves. */
  own: number;
  /** How many equal siblings it stands for; 1 for a module alone. */
  fold: number;
  /** Path with a star where it stands for several: "layers.*.mlp". */
  name: string;
}

export class Boxes {
  private readonly made = new Map<string, Box[]>();

  /** `open`: the module whose equal children are shown one by one; null for none. */
  constructor(private readonly model: Model, readonly cost: CostName, private readonly open: Part | null) {}

  of(part: Part): Box {
    return this.box([part], 1, part.path || part.name);
  }

  /** What is directly below a box, in the order of the model. */
  children(box: Box): Box[] {
    const first = box.parts[0]!;
    const key = `${first.index}.${box.parts.length}`;
    let found = this.made.get(key);
    if (!found) this.made.set(key, (found = this.makeChildren(box, first)));
    return found;
  }

  private makeChildren(box: Box, first: Part): Box[] {
    const found: Box[] = [];
    const prefix = first.path ? `${box.name}.` : "";
    const places = new Map(first.children.map((child, place) => [child, place]));
    for (let place = 0; place < first.children.length; place += 1) {
      const child = first.children[place]!;
      const closed = first !== this.open;
      if (closed && child.folded) continue;
      const fold = closed ? child.fold : 1;
      // Equal siblings have equal children in the same places.
      const siblings = fold > 1 ? this.foldOf(child) : [child];
      const parts = siblings.flatMap((sibling) => {
        const at = places.get(sibling);
        return at === undefined ? [] : box.parts.map((parent) => parent.children[at]).filter((part): part is Part => part !== undefined);
      });
      const rest = first.path ? child.path.slice(first.path.length + 1) : child.path;
      found.push(this.box(parts, fold, fold > 1 ? prefix + rest.replace(/[^.]*$/, "*") : prefix + rest));
    }
    return found;
  }

  private foldOf(first: Part): Part[] {
    const fold = this.model.folds.find((indices) => indices[0] === first.index)!;
    return fold.map((index) => this.model.parts[index]!);
  }

  private box(parts: Part[], fold: number, name: string): Box {
    let value = 0;
    let own = 0;
    for (const part of parts) {
      value += this.model.total(part, this.cost);
      own += this.model.own(part, this.cost);
    }
    return { parts, value, own, fold, name };
  }
}

/** The boxes without children, or with work of their own, that cost most. */
export function heaviest(model: Model, cost: CostName, most: number): Box[] {
  const boxes = new Boxes(model, cost, null);
  const found: Box[] = [];
  const visit = (box: Box) => {
    if (box.own > 0) {
      const place = found.findIndex((other) => box.own > other.own);
      found.splice(place < 0 ? found.length : place, 0, box);
      if (found.length > most) found.pop();
    }
    for (const child of boxes.children(box)) visit(child);
  };
  visit(boxes.of(model.root));
  return found;
}

/** How a figure of a box is named: see figure.ts. */
export const boxField = (of: "own" | "modules", box: Box, cost: CostName): string => `${of}.${box.parts.map((part) => part.index).join(",")}.${cost}`;
