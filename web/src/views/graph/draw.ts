// A placed graph as SVG: containers, boxes, operators, and the edges with their shapes.

import { s } from "../../dom";
import type { PlacedEdge, PlacedLevel } from "./layout";
import { TITLE } from "./layout";
import { cut, shortShape, textWidth } from "./measure";
import { secondLine, titleOf, type Flowing, type Scene, type Shown } from "./scene";
import type { Item, Structure } from "./structure";

/** An edge that leads further aside has no label: it would stand on the curve. */
const STRAIGHT = 24;

export interface Drawing {
  structure: Structure;
  scene: Scene;
  shown: Shown;
  /** What a screen reader says of a part. */
  describe(item: Item): string;
  /** "[32, 64] float32", or what an edge without a shape means. */
  explain(edge: Flowing): string;
  /** Name of the colour of a module's type. */
  tone(type: string): string;
  /** "15 parts" */
  groupLabel(item: Item): string;
}

export interface Spot {
  item: Item;
  x: number;
  y: number;
  width: number;
  height: number;
}

export function draw(level: PlacedLevel, drawing: Drawing): { elements: SVGElement[]; spots: Map<string, Spot> } {
  const spots = new Map<string, Spot>();
  const elements = drawLevel(level, drawing.structure.root, 0, 0, 1, drawing, spots);
  return { elements, spots };
}

function drawLevel(level: PlacedLevel, container: Item, x: number, y: number, depth: number, drawing: Drawing, spots: Map<string, Spot>): SVGElement[] {
  const flows = drawing.scene.edges.get(container)!;
  const lines = level.edges.map((edge) => drawEdge(edge, flows.get(`${edge.edge.from}→${edge.edge.to}`)!, x, y, drawing));
  const boxes = level.boxes.flatMap((box) => {
    const item = drawing.structure.byId.get(box.id)!;
    const spot: Spot = { item, x: x + box.x, y: y + box.y, width: box.width, height: box.height };
    spots.set(item.id, spot);
    if (!box.inside) return [drawBox(spot, depth, drawing)];
    return [drawContainer(spot, depth, drawing), ...drawLevel(box.inside, item, spot.x, spot.y, depth + 1, drawing, spots), heading(spot, drawing)];
  });
  return [...lines, ...boxes, ...labels(level, flows, x, y)];
}

function drawEdge(placed: PlacedEdge, flow: Flowing, x: number, y: number, drawing: Drawing): SVGElement {
  const way = path(placed.points, x, y);
  const target = drawing.structure.byId.get(flow.to);
  // Where an edge goes on inside a container it has no head.
  const ends = target && !drawing.scene.edges.has(target);
  return s(
    "g", { class: `edge${placed.isLong ? " long" : ""}${flow.isGuess ? " guess" : ""}`, "data-from": flow.from, "data-to": flow.to, "data-shape": flow.shape, "aria-hidden": "true" },
    s("path", { class: "hit", d: way }, s("title", {}, drawing.explain(flow))),
    s("path", { class: "line", d: way, "marker-end": ends ? "url(#graph-arrow)" : null }),
  );
}

function path(points: readonly [number, number][], x: number, y: number): string {
  let text = "";
  points.forEach(([px, py], index) => {
    const [ax, ay] = [round(x + px), round(y + py)];
    if (!index) text = `M${ax} ${ay}`;
    else if (index % 2) text += Math.abs(py - points[index - 1]![1]) < 0.1 ? "" : `V${ay}`;
    else {
      const [bx, by] = points[index - 1]!;
      const middle = round(y + (by + py) / 2);
      text += Math.abs(bx - px) < 0.5 ? `L${ax} ${ay}` : `C${round(x + bx)} ${middle} ${ax} ${middle} ${ax} ${ay}`;
    }
  });
  return text;
}

const round = (value: number): number => Math.round(value * 10) / 10;

/** Shapes stand on edges between neighbours, where they touch no other label. */
function labels(level: PlacedLevel, flows: Map<string, Flowing>, x: number, y: number): SVGElement[] {
  const taken: { y: number; from: number; to: number }[] = [];
  const found: SVGElement[] = [];
  for (const placed of level.edges) {
    const flow = flows.get(`${placed.edge.from}→${placed.edge.to}`)!;
    const text = shortShape(flow.shape);
    if (!text || !placed.edge.room || Math.abs(placed.points[1]![0] - placed.points[2]![0]) > STRAIGHT || flow.from.startsWith("in:") || flow.to === "out") continue;
    const [from, to] = [placed.label.x + 6, placed.label.x + 6 + textWidth(text, "shape")];
    const blocked = taken.some((other) => Math.abs(other.y - placed.label.y) < 14 && from < other.to + 8 && to > other.from - 8);
    const crosses = level.edges.some((other) => other !== placed && passes(other, placed.label.y, from - 2, to));
    if (blocked || crosses) continue;
    taken.push({ y: placed.label.y, from, to });
    found.push(s("text", { class: "shape", x: round(x + from), y: round(y + placed.label.y + 4), "aria-hidden": "true" }, text));
  }
  return found;
}

/** Whether an edge goes through a place at this height. */
function passes(edge: PlacedEdge, y: number, from: number, to: number): boolean {
  for (let index = 1; index < edge.points.length; index += 1) {
    const [[ax, ay], [bx, by]] = [edge.points[index - 1]!, edge.points[index]!];
    if (y < ay - 8 || y > by + 8) continue;
    if (Math.min(ax, bx) < to && Math.max(ax, bx) > from) return true;
  }
  return false;
}

function group(spot: Spot, depth: number, kind: string, drawing: Drawing, expanded: boolean | null, ...children: (SVGElement | string | false | null)[]): SVGElement {
  const { item } = spot;
  const failed = item.failed ? ` failed ${item.failed}` : "";
  return s(
    "g",
    {
      class: `part ${kind}${failed}${item.calls > 1 ? " several" : ""}`, role: "treeitem", tabindex: -1, "aria-level": depth, "aria-expanded": expanded === null ? null : String(expanded),
      "aria-label": drawing.describe(item), "data-id": item.id, "data-path": item.path, "data-kind": item.kind, transform: `translate(${round(spot.x)} ${round(spot.y)})`,
    },
    s("title", {}, drawing.describe(item)),
    ...children,
  );
}

function drawContainer(spot: Spot, depth: number, drawing: Drawing): SVGElement {
  return group(
    spot, depth, `container level-${depth % 2}`, drawing, true,
    s("rect", { class: "frame", width: spot.width, height: spot.height, rx: 10 }),
    opener(spot.width - 24, 5, "−"),
  );
}

/** The title stands over the edges that enter below it. */
function heading(spot: Spot, drawing: Drawing): SVGElement {
  const { item } = spot;
  const room = Math.max(40, spot.width - 54 - (item.kind === "fold" ? 60 : 0));
  const name = cut(titleOf(item, drawing.shown), room, "name");
  const copy = drawing.shown.copy.get(item.id) ?? 0;
  return s(
    "g", { class: `heading${item.failed ? " failed" : ""}`, transform: `translate(${round(spot.x)} ${round(spot.y)})`, "aria-hidden": "true" },
    s("text", { class: "name", x: 12, y: TITLE - 10 }, name),
    item.kind === "fold" && times(12 + textWidth(name, "name") + 8, 7, `${copy + 1} / ${item.copies.length}`),
  );
}

function drawBox(spot: Spot, depth: number, drawing: Drawing): SVGElement {
  const { item, width, height } = spot;
  if (item.kind === "operator" || item.kind === "input" || item.kind === "output") {
    return group(
      spot, depth, item.kind, drawing, null,
      s("rect", { class: "frame", width, height, rx: height / 2 }),
      s("text", { class: "name", x: width / 2, y: height / 2 + 4.5, "text-anchor": "middle" }, cut(item.name, width - 18, item.kind === "operator" ? "type" : "name")),
    );
  }
  const canOpen = item.copies.length > 0;
  const room = width - 24 - (canOpen ? 22 : 0);
  const badge = item.kind === "fold" ? 42 : 0;
  const fill = canOpen ? null : `--fill: var(--${drawing.tone(item.type)})`;
  const name = cut(item.name, room - badge, "name");
  return group(
    spot, depth, `box${canOpen ? " can-open" : ""}`, drawing, canOpen ? false : null,
    item.kind === "fold" && s("rect", { class: "frame behind", x: 6, y: -5, width: width - 6, height, rx: 8, style: fill }),
    item.kind === "fold" && s("rect", { class: "frame behind", x: 3, y: -2.5, width: width - 3, height, rx: 8, style: fill }),
    s("rect", { class: "frame", width, height, rx: 8, style: fill }),
    s("text", { class: "name", x: 12, y: 19 }, name), " ",
    item.kind === "fold" && times(12 + textWidth(name, "name") + 4, 7, `× ${item.copies.length}`), " ",
    s("text", { class: "type", x: 12, y: 36 }, cut(item.kind === "group" ? drawing.groupLabel(item) : secondLine(item), room, "type")),
    canOpen && opener(width - 26, 13, "+"),
  );
}

function times(x: number, y: number, text: string): SVGElement {
  const width = textWidth(text, "name") + 10;
  return s("g", { class: "times", transform: `translate(${round(x)} ${y})` }, s("rect", { width, height: 17, rx: 8.5 }), s("text", { x: width / 2, y: 12.7, "text-anchor": "middle" }, text));
}

function opener(x: number, y: number, sign: string): SVGElement {
  return s("g", { class: "opener", transform: `translate(${round(x)} ${y})` }, s("rect", { width: 20, height: 20, rx: 5 }), s("path", { d: sign === "+" ? "M5 10H15M10 5V15" : "M5 10H15" }));
}
