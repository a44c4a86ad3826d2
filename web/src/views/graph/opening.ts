// Which boxes are open, and which copy of a fold is drawn.

import type { Model } from "../../model";
import { isOpen, partsOf, type Shown } from "./scene";
import type { Item, Structure } from "./structure";

/** Levels are opened at first as long as this many parts are in sight. */
const FIRST_PARTS = 28;
/** What was opened first is closed when more would be drawn. */
const MOST_PARTS = 300;

export class Opening {
  readonly shown: Shown;

  /** `before`: what was open when the view was made last. */
  constructor(private readonly structure: Structure, model: Model, before?: Shown) {
    this.shown = before ?? { open: new Set(), copy: new Map() };
    if (!before) this.first();
    const { failure } = model.report;
    const failed = failure && structure.byPath.get(failure.path)?.find((item) => item.failed);
    if (failed) this.to(failed);
  }

  has(item: Item): boolean {
    return this.shown.open.has(item.id);
  }

  copyOf(item: Item): number {
    return this.shown.copy.get(item.id) ?? 0;
  }

  closeAll(): void {
    this.shown.open.clear();
  }

  close(item: Item): void {
    this.shown.open.delete(item.id);
  }

  /** Open a part; where too much would be in sight, close what was opened first. */
  open(item: Item): void {
    this.shown.open.add(item.id);
    const needed = new Set<string>([item.id]);
    for (let above = item.parent; above; above = above.parent) needed.add(above.id);
    for (const id of [...this.shown.open]) {
      if (this.count(this.structure.root) <= MOST_PARTS) return;
      if (!needed.has(id)) this.shown.open.delete(id);
    }
  }

  /** Open what encloses a part. */
  to(item: Item): void {
    const enclosing: Item[] = [];
    for (let at = item; at.parent; at = at.parent) {
      if (at.parent.kind === "fold") this.shown.copy.set(at.parent.id, at.copy);
      if (at.parent.parent) enclosing.unshift(at.parent);
    }
    for (const one of enclosing) this.open(one);
  }

  /** Open every closed box in sight, as far as there is room. */
  oneLevel(items: readonly Item[]): void {
    const closed = items.filter((item) => item.copies.length && !this.has(item));
    let count = items.length;
    for (const item of closed) {
      count += partsOf(item, this.shown).length;
      if (count > MOST_PARTS) break;
      this.shown.open.add(item.id);
    }
  }

  /** Another copy of a fold, opened as the one before was. */
  step(item: Item, by: number): void {
    const before = this.copyOf(item);
    const after = Math.max(0, Math.min(item.copies.length - 1, before + by));
    const same = (a: readonly Item[], b: readonly Item[]): void => a.forEach((one, index) => {
      const twin = b[index];
      if (!twin || !this.has(one)) return;
      this.shown.open.add(twin.id);
      one.copies.forEach((list, copy) => same(list, twin.copies[copy] ?? []));
    });
    same(item.copies[before]!, item.copies[after]!);
    this.shown.copy.set(item.id, after);
  }

  private first(): void {
    let level = partsOf(this.structure.root, this.shown);
    let count = level.length;
    for (;;) {
      const openable = level.filter((item) => item.copies.length && item.kind !== "group");
      const below = openable.flatMap((item) => partsOf(item, this.shown));
      if (!below.length || count + below.length > FIRST_PARTS) return;
      for (const item of openable) this.shown.open.add(item.id);
      count += below.length;
      level = below;
    }
  }

  private count(item: Item): number {
    return partsOf(item, this.shown).reduce((sum, child) => sum + 1 + (isOpen(child, this.shown) ? this.count(child) : 0), 0);
  }
}
