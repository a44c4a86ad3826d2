// What flowed through the model as a tree of parts: calls within calls, and the operators between them.
//
// Equal neighbours are one part with copies (as the terminal folds them), and a long list of parts is
// cut into groups, so that no container ever holds more than a screen shows.

import type { Model } from "../../model";
import type { Step } from "../../types";
import { rangeName } from "../table/rows";
import { t } from "./words";

export interface Item {
  id: string;
  kind: "input" | "output" | "call" | "operator" | "fold" | "group";
  name: string;
  /** Second line: the type, or which of several calls it is. */
  type: string;
  /** The module it belongs to; null for inputs, outputs and groups. */
  path: string | null;
  /** Index in flow.calls, -1 where it is no call. */
  call: number;
  /** What is inside; of a fold one list for each copy, of everything else one list. */
  copies: Item[][];
  /** Of a fold of single modules the module of each copy; what is in them is in the fold itself. */
  heads: Item[];
  parent: Item | null;
  /** Which copy of its parent it is in, and where. */
  copy: number;
  index: number;
  failed: "" | "here" | "inside";
  /** Index of its node in the flow, -1 where it has parts. */
  node: number;
  /** How many calls this module has, and which one this is, from 1. */
  calls: number;
  number: number;
  signature: number;
  /** Of a group how many parts it holds, also in groups within it. */
  size: number;
}

/** For each node of the flow the way from the root: place in the list and copy, level by level. */
export type Place = readonly (readonly [index: number, copy: number])[];

const MOST_PARTS = 40;
const GROUPS = 20;
const LONGEST_PATTERN = 6;
const FEWEST_BLOCKS = 2;
const FEWEST_LAYERS = 3;

export class Structure {
  readonly root: Item;
  /** Shape and dtype of what the failing call was given. */
  readonly failedShape: string;
  readonly places: Place[] = [];
  readonly byPath = new Map<string, Item[]>();
  readonly byId = new Map<string, Item>();
  private readonly step: Step;
  private readonly foldOf = new Map<string, number>();
  private readonly signatures = new Map<string, number>();
  private readonly counts = new Map<string, number>();
  private readonly failurePath: string | null;

  constructor(private readonly model: Model, step: Step) {
    this.step = step;
    const given = model.report.failure?.inputs.find((value) => value.shape);
    this.failedShape = given ? `[${given.shape!.join(", ")}] ${given.dtype ?? ""}`.trim() : "";
    this.failurePath = model.report.failure?.path ?? null;
    model.folds.forEach((fold, number) => fold.forEach((index) => this.foldOf.set(model.parts[index]!.path, number)));
    for (const text of step.flow.calls) {
      const path = step.texts[text]!;
      this.counts.set(path, (this.counts.get(path) ?? 0) + 1);
    }
    this.root = this.item("call", "root", model.root.name, model.root.module.type, "");
    this.root.copies = [this.parts()];
    this.finish(this.root, []);
  }

  text(index: number): string {
    return this.step.texts[index] ?? "";
  }

  private item(kind: Item["kind"], id: string, name: string, type: string, path: string | null): Item {
    return { id, kind, name, type, path, call: -1, copies: [], heads: [], parent: null, copy: 0, index: 0, failed: "", node: -1, calls: 0, number: 0, signature: 0, size: 0 };
  }

  /** The parts of the root: inputs, what its call does, outputs. */
  private parts(): Item[] {
    const { flow } = this.step;
    const lists = new Map<number, Item[]>();
    const listOf = (call: number) => lists.get(call) ?? lists.set(call, []).get(call)!;
    const seen = new Map<string, number>();
    const calls = flow.calls.map((text, index) => {
      const path = this.text(text);
      const part = this.model.byPath.get(path);
      const item = this.item("call", `call ${index}`, relative(path, this.callPath(flow.parents[index]!)) || part?.name || path, part?.module.type ?? "", path);
      item.call = index;
      item.calls = this.counts.get(path)!;
      item.number = (seen.get(path) ?? 0) + 1;
      seen.set(path, item.number);
      return item;
    });
    const attached = new Set<number>();
    const attach = (call: number) => {
      for (let at = call; at >= 0 && !attached.has(at); at = flow.parents[at]!) {
        attached.add(at);
        // Its list has to exist before its parent's entry is made: outermost first.
        pending.push(at);
      }
      while (pending.length) {
        const at = pending.pop()!;
        if (flow.parents[at]! >= 0) listOf(flow.parents[at]!).push(calls[at]!);
      }
    };
    const pending: number[] = [];
    const [inputs, outputs, outside]: [Item[], Item[], Item[]] = [[], [], []];
    flow.node_call.forEach((call, node) => {
      const label = this.text(flow.node_label[node]!);
      if (call < 0) {
        const kind = flow.node_op[node]! < 0 ? "input" : "output";
        const item = this.item(kind, `node ${node}`, /^\d*$/.test(label) ? `${t(kind)}${Number(label) ? ` ${label}` : ""}` : label, "", null);
        item.node = node;
        (kind === "input" ? inputs : outputs).push(item);
        return;
      }
      attach(call);
      if (!label) {
        calls[call]!.node = node;
        if (flow.parents[call]! < 0) outside.push(calls[call]!);
        return;
      }
      const item = this.item("operator", `node ${node}`, label, "", this.callPath(call));
      item.node = node;
      listOf(call).push(item);
    });
    this.addFailed(calls, attach);
    for (const [call, list] of lists) calls[call]!.copies = [list];
    const top = flow.parents.flatMap((parent, call) => (parent < 0 ? (lists.get(call) ?? []) : []));
    for (const item of [...top, ...outside]) this.sign(item);
    return [...inputs, ...this.grouped(this.folded([...top, ...outside]), "root"), ...outputs];
  }

  private callPath(call: number): string {
    return call < 0 ? "" : this.text(this.step.flow.calls[call]!);
  }

  /** The call that failed did no work that was recorded, and is shown all the same. */
  private addFailed(calls: Item[], attach: (call: number) => void): void {
    const { flow } = this.step;
    if (this.failurePath === null) return;
    const failing = calls.filter((item) => item.path === this.failurePath && flow.completed[item.call] === false).pop() ?? calls.filter((item) => item.path === this.failurePath).pop();
    if (!failing) return;
    attach(failing.call);
    failing.failed = "here";
    for (let at = flow.parents[failing.call]!; at >= 0; at = flow.parents[at]!) calls[at]!.failed = "inside";
  }

  /** A number that is the same for parts that look the same inside. */
  private sign(item: Item): number {
    const below = item.copies.map((list) => list.map((child) => this.sign(child)));
    const key = JSON.stringify([item.kind, item.kind === "operator" ? item.name : item.type, item.failed, below]);
    item.signature = this.signatures.get(key) ?? this.signatures.set(key, this.signatures.size).get(key)!;
    return item.signature;
  }

  /** Runs of equal parts become one with copies: "layers.0", "add", "layers.1", "add", … */
  private folded(list: Item[]): Item[] {
    for (const item of list) if (item.copies.length) item.copies = [this.grouped(this.folded(item.copies[0]!), item.id)];
    const keys = list.map((item) => `${item.signature}|${item.kind === "operator" ? "" : (this.foldOf.get(item.path!) ?? item.path)}`);
    const found: Item[] = [];
    for (let at = 0; at < list.length;) {
      const [width, times] = this.pattern(list, keys, at);
      if (times < 2) {
        found.push(list[at]!);
        at += 1;
        continue;
      }
      found.push(this.fold(list.slice(at, at + width * times), width));
      at += width * times;
    }
    return found;
  }

  /** How many parts repeat from here, and how often; [1, 1] where nothing does. */
  private pattern(list: Item[], keys: string[], at: number): [number, number] {
    let best: [number, number] = [1, 1];
    for (let width = 1; width <= LONGEST_PATTERN; width += 1) {
      let times = 1;
      while (keys.slice(at, at + width).every((key, offset) => keys[at + times * width + offset] === key)) times += 1;
      const calls = list.slice(at, at + width).filter((item) => item.kind === "call");
      const fewest = calls.some((item) => item.copies.length) ? FEWEST_BLOCKS : FEWEST_LAYERS;
      if (calls.length && times >= fewest && width * times > best[0] * best[1]) best = [width, times];
    }
    return best;
  }

  private fold(items: Item[], width: number): Item {
    const first = items.find((item) => item.kind === "call")!;
    const last = items[items.length - width + items.indexOf(first)]!;
    const isSame = first.path === last.path;
    const fold = this.item("fold", `fold ${first.id}`, isSame ? first.name : rangeOf(first.name, last.name), first.type, first.path);
    fold.call = first.call;
    fold.calls = first.calls;
    if (width === 1 && first.copies.length) {
      fold.heads = items;
      fold.copies = items.map((item) => item.copies[0]!);
    } else for (let at = 0; at < items.length; at += width) fold.copies.push(items.slice(at, at + width));
    fold.failed = items.some((item) => item.failed) ? "inside" : "";
    return fold;
  }

  /** A long list becomes about twenty groups. */
  private grouped(list: Item[], id: string): Item[] {
    if (list.length <= MOST_PARTS) return list;
    const size = Math.ceil(list.length / GROUPS);
    const groups: Item[] = [];
    for (let at = 0; at < list.length; at += size) {
      const inside = list.slice(at, at + size);
      const group = this.item("group", `group ${id} ${at}`, `${inside[0]!.name} … ${inside[inside.length - 1]!.name}`, "", null);
      group.size = inside.length;
      group.copies = [this.grouped(inside, group.id)];
      group.failed = inside.some((item) => item.failed) ? "inside" : "";
      groups.push(group);
    }
    return groups;
  }

  /** Say of each part where it is, and of each node how to get there. */
  private finish(item: Item, way: Place): void {
    this.byId.set(item.id, item);
    if (item.kind === "call" && item.path !== null && item !== this.root) this.byPath.set(item.path, [...(this.byPath.get(item.path) ?? []), item]);
    item.heads.forEach((head, copy) => {
      head.parent = item;
      head.copy = copy;
      this.byId.set(head.id, head);
      this.byPath.set(head.path!, [...(this.byPath.get(head.path!) ?? []), head]);
    });
    if (item.node >= 0) this.places[item.node] = way;
    item.copies.forEach((list, copy) => {
      // The root's list has no place of its own.
      const start: Place = item === this.root ? [] : [...way.slice(0, -1), [way[way.length - 1]![0], copy]];
      list.forEach((child, index) => {
        child.parent = item;
        child.copy = copy;
        child.index = index;
        this.finish(child, [...start, [index, 0]]);
      });
    });
  }
}

/** relative("layers.3.attn", "layers.3") is "attn". */
function relative(path: string, outer: string): string {
  if (!outer) return path;
  return path.startsWith(`${outer}.`) ? path.slice(outer.length + 1) : path;
}

/** rangeOf("layers.0", "layers.31") is "layers.0–31". */
function rangeOf(first: string, last: string): string {
  const cut = last.lastIndexOf(".") + 1;
  return last.slice(0, cut) === first.slice(0, cut) ? first.slice(0, cut) + rangeName(first.slice(cut), last.slice(cut)) : `${first}–${last}`;
}
