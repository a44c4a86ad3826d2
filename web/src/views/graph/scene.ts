// What is in sight of the graph: the open containers, their parts and the edges between them.

import type { Step } from "../../types";
import { TITLE, type Box, type Edge, type Level } from "./layout";
import { shortShape, textWidth } from "./measure";
import type { Item, Structure } from "./structure";

export interface Shown {
  open: Set<string>;
  /** Of an open fold the copy that is drawn. */
  copy: Map<string, number>;
}

export interface Flowing extends Edge {
  /** Shape and dtype of the largest tensor. */
  shape: string;
  /** How many edges of the flow are drawn as this one. */
  count: number;
  /** Nothing was recorded: the call failed before. */
  isGuess: boolean;
}

export interface Scene {
  level: Level;
  /** By container, then by "from→to". */
  edges: Map<Item, Map<string, Flowing>>;
  items: Item[];
}

interface Draft {
  ins: Set<string>;
  hasOut: boolean;
  edges: Map<string, Flowing>;
}

/** More sources than this share one port. */
const MOST_PORTS = 5;

export function partsOf(item: Item, shown: Shown): Item[] {
  return item.copies[Math.min(shown.copy.get(item.id) ?? 0, item.copies.length - 1)] ?? [];
}

export const isOpen = (item: Item, shown: Shown): boolean => item.copies.length > 0 && (item.parent === null || shown.open.has(item.id));

/** The module that a part stands for: of an open fold the copy that is drawn. */
export function pathOf(item: Item, shown: Shown): string | null {
  return shown.open.has(item.id) ? (item.heads[shown.copy.get(item.id) ?? 0]?.path ?? item.path) : item.path;
}

export function sceneOf(structure: Structure, step: Step, shown: Shown): Scene {
  const drafts = new Map<Item, Draft>();
  const items: Item[] = [];
  const visit = (item: Item) => {
    drafts.set(item, { ins: new Set(), hasOut: false, edges: new Map() });
    for (const child of partsOf(item, shown)) {
      items.push(child);
      if (isOpen(child, shown)) visit(child);
    }
  };
  visit(structure.root);
  const { flow } = step;
  flow.edge_from.forEach((from, index) => flowing(structure, shown, drafts, from, flow.edge_to[index]!, structure.text(flow.edge_shape[index]!)));
  for (const [container, draft] of drafts) {
    guesses(structure, container, draft, shown);
    fewPorts(draft);
  }
  const level = (item: Item): Level => {
    const draft = drafts.get(item)!;
    return {
      boxes: partsOf(item, shown).map((child) => box(child, shown, isOpen(child, shown) ? level(child) : null)),
      ins: [...draft.ins], hasOut: draft.hasOut, edges: [...draft.edges.values()],
    };
  };
  return { level: level(structure.root), edges: new Map([...drafts].map(([item, draft]) => [item, draft.edges])), items };
}

/** Draw one edge of the flow between what is in sight of its ends. */
function flowing(structure: Structure, shown: Shown, drafts: Map<Item, Draft>, from: number, to: number, shape: string): void {
  const [source, target] = [structure.places[from], structure.places[to]];
  if (!source || !target) return;
  let container = structure.root;
  let depth = 0;
  for (;;) {
    const [a, b] = [source[depth], target[depth]];
    if (!a || !b) return;
    if (a[0] !== b[0]) break;
    const item = partsOf(container, shown)[a[0]]!;
    // Inside a closed box, or from one copy of a fold to the next: × N says so.
    if (!isOpen(item, shown) || a[1] !== b[1]) return;
    container = item;
    depth += 1;
  }
  const parts = partsOf(container, shown);
  const [upper, lower] = [parts[source[depth]![0]], parts[target[depth]![0]]];
  if (!upper || !lower) return;
  add(drafts.get(container)!, upper.id, lower.id, shape);
  let [item, at] = [upper, depth];
  while (isOpen(item, shown)) {
    at += 1;
    const child = partsOf(item, shown)[source[at]?.[0] ?? -1];
    if (!child) break;
    drafts.get(item)!.hasOut = true;
    add(drafts.get(item)!, child.id, "out", shape);
    item = child;
  }
  let key = upper.id;
  [item, at] = [lower, depth];
  while (isOpen(item, shown)) {
    at += 1;
    const child = partsOf(item, shown)[target[at]?.[0] ?? -1];
    if (!child) break;
    drafts.get(item)!.ins.add(key);
    add(drafts.get(item)!, `in:${key}`, child.id, shape);
    key = `in:${key}`;
    item = child;
  }
}

function add(draft: Draft, from: string, to: string, shape: string, isGuess = false): void {
  const key = `${from}→${to}`;
  const known = draft.edges.get(key);
  if (known) {
    known.count += 1;
    if (elements(shape) > elements(known.shape)) known.shape = shape;
  } else {
    // Where an edge goes on behind a border its shape stands on the part outside.
    const room = from.startsWith("in:") || to === "out" ? 0 : textWidth(shortShape(shape), "shape");
    draft.edges.set(key, { from, to, room, shape, count: 1, isGuess });
  }
}

function elements(shape: string): number {
  return (/^\[([^\]]*)\]/.exec(shape)?.[1] ?? "").split(", ").reduce((product, size) => product * Number(size), 1);
}

/** A call that failed at once took nothing that was recorded: it came after the part before it. */
function guesses(structure: Structure, container: Item, draft: Draft, shown: Shown): void {
  for (const child of partsOf(container, shown)) {
    if (!child.failed || [...draft.edges.values()].some((edge) => edge.to === child.id)) continue;
    const before = partsOf(container, shown)[child.index - 1];
    if (before && before.kind !== "output") add(draft, before.id, child.id, structure.failedShape, true);
  }
}

function fewPorts(draft: Draft): void {
  if (draft.ins.size <= MOST_PORTS) return;
  const edges = [...draft.edges.values()];
  draft.ins = new Set(["*"]);
  draft.edges.clear();
  for (const edge of edges) add(draft, edge.from.startsWith("in:") ? "in:*" : edge.from, edge.to, edge.shape, edge.isGuess);
}

function box(item: Item, shown: Shown, inside: Level | null): Box {
  if (inside) return { id: item.id, width: Math.min(textWidth(titleOf(item, shown), "name"), 420) + 70, height: TITLE + 20, inside };
  if (item.kind === "input" || item.kind === "output") return { id: item.id, width: clamp(textWidth(item.name, "name") + 30, 56, 200), height: 28, inside };
  if (item.kind === "operator") return { id: item.id, width: clamp(textWidth(item.name, "type") + 26, 40, 200), height: 26, inside };
  const badge = item.kind === "fold" ? 42 : 0;
  const opener = item.copies.length ? 24 : 0;
  return { id: item.id, width: clamp(Math.max(textWidth(item.name, "name") + badge, textWidth(secondLine(item), "type")) + opener + 28, 104, 236), height: 46, inside };
}

const clamp = (value: number, least: number, most: number): number => Math.max(least, Math.min(most, value));

export function titleOf(item: Item, shown: Shown): string {
  if (item.kind !== "fold") return item.name;
  const copy = shown.copy.get(item.id) ?? 0;
  return item.heads[copy]?.name ?? partsOf(item, shown).find((child) => child.kind === "call")?.name ?? item.name;
}

export function secondLine(item: Item): string {
  return item.calls > 1 && item.kind === "call" ? `${item.type} · ${item.number}/${item.calls}` : item.type;
}
