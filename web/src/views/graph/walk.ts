// Which parts are next to a part: along the edges, across the borders of boxes, and at its side.

import type { Spot } from "./draw";
import type { Flowing, Scene } from "./scene";
import type { Item, Structure } from "./structure";

export interface Neighbour {
  item: Item;
  flow: Flowing;
}

export class Walk {
  constructor(private readonly structure: Structure, private readonly scene: Scene, private readonly spots: Map<string, Spot>) {}

  around(item: Item, side: "above" | "below"): Neighbour[] {
    const container = item.parent;
    if (!container) return [];
    const found: Neighbour[] = [];
    for (const flow of this.scene.edges.get(container)?.values() ?? []) {
      const [mine, other] = side === "above" ? [flow.to, flow.from] : [flow.from, flow.to];
      if (mine !== item.id) continue;
      const next = this.structure.byId.get(other);
      if (next) found.push({ item: next, flow });
      else found.push(...this.across(container, side, other, flow));
    }
    return found;
  }

  private across(container: Item, side: "above" | "below", port: string, flow: Flowing): Neighbour[] {
    if (side === "below") return this.around(container, "below").map(({ item }) => ({ item, flow }));
    const source = this.structure.byId.get(port.replace(/^(in:)+/, ""));
    if (source) return [{ item: source, flow }];
    return this.around(container, "above").map(({ item }) => ({ item, flow }));
  }

  /** Against the edges; from the first part of a box to the box. */
  upwards(item: Item): Item | undefined {
    const container = item.parent;
    if (!container) return undefined;
    const inside = [...(this.scene.edges.get(container)?.values() ?? [])].find((flow) => flow.to === item.id && this.structure.byId.has(flow.from));
    if (inside) return this.structure.byId.get(inside.from);
    return container === this.structure.root ? undefined : container;
  }

  /** The next part at about the same height in the same box. */
  beside(item: Item, by: number): Item | undefined {
    const spot = this.spots.get(item.id)!;
    const middle = (one: Spot) => one.y + one.height / 2;
    const row = [...this.spots.values()].filter((one) => one.item.parent === item.parent && Math.abs(middle(one) - middle(spot)) < (one.height + spot.height) / 2).sort((a, b) => a.x - b.x);
    return row[row.findIndex((one) => one.item === item) + by]?.item;
  }
}
