// The model as a graph of nested boxes that open in place.

import "./graph.css";
import type { App } from "../../app";
import { h, replace, s } from "../../dom";
import { block, explained } from "../../view";
import type { View } from "../index";
import { details, type Looked } from "./details";
import { draw, type Spot } from "./draw";
import { layout } from "./layout";
import { isOpen, partsOf, pathOf, sceneOf, titleOf, type Flowing, type Scene, type Shown } from "./scene";
import { Structure, type Item } from "./structure";
import { t } from "./words";

/** Levels are opened at first as long as this many parts are in sight. */
const FIRST_PARTS = 28;
/** What was opened first is closed when more would be drawn. */
const MOST_PARTS = 300;
const [LEAST_ZOOM, MOST_ZOOM] = [0.15, 2.5];

class GraphView {
  readonly element: HTMLElement;
  private readonly structure: Structure;
  private readonly shown: Shown = { open: new Set(), copy: new Map() };
  private scene!: Scene;
  private spots = new Map<string, Spot>();
  private size = { width: 0, height: 0 };
  private zoom = 1;
  private current: string | null = null;
  /** The selection that came from here needs no scrolling. */
  private own = false;
  private readonly svg = s("svg", { role: "tree", "aria-label": t("tree"), class: "graph" });
  private readonly canvas = h("div", { class: "graph-canvas", tabindex: 0, role: "group", "aria-label": t("canvas") });
  private readonly aside = h("aside", { class: "graph-details", "aria-live": "polite" });
  private readonly zoomed = h("output", { class: "graph-zoom" });

  constructor(private readonly app: App) {
    this.structure = new Structure(app.model, app.model.step!);
    const button = (text: string, label: string, onclick: () => void) => h("button", { type: "button", "aria-label": label, title: label, onclick }, text);
    const { element, body } = block("graph", t("title"), t("reading"), explained(t("why"), t("whyLabel")));
    const tools = h(
      "div", { class: "tools", role: "toolbar", "aria-label": t("canvas") },
      button("−", t("zoomOut"), () => this.zoomBy(1 / 1.25)), this.zoomed, button("+", t("zoomIn"), () => this.zoomBy(1.25)), button(t("fit"), t("fit"), () => this.fit()),
      button(t("openLevel"), t("openLevel"), () => this.openLevel()), button(t("closeAll"), t("closeAll"), () => this.closeAll()),
    );
    this.canvas.append(this.svg);
    body.append(tools, h("div", { class: "graph-body" }, this.canvas, this.aside));
    this.element = element;
    this.openFirst();
    this.listen();
    this.redraw();
    this.canvas.style.height = `${Math.min(680, Math.max(260, this.size.height + 24))}px`;
    app.on((changed) => changed.has("selected") && this.selected());
    requestAnimationFrame(() => {
      this.canvas.scrollLeft = (this.canvas.scrollWidth - this.canvas.clientWidth) / 2;
      const { failure } = app.model.report;
      if (app.state.selected !== null) this.selected();
      else if (failure) this.center(this.structure.byPath.get(failure.path)?.find((item) => this.spots.has(item.id)));
    });
  }

  // ---------------------------------------------------------------- what is open

  private openFirst(): void {
    let level = partsOf(this.structure.root, this.shown);
    let count = level.length;
    for (;;) {
      const openable = level.filter((item) => item.copies.length && item.kind !== "group");
      const below = openable.flatMap((item) => partsOf(item, this.shown));
      if (!below.length || count + below.length > FIRST_PARTS) break;
      for (const item of openable) this.shown.open.add(item.id);
      count += below.length;
      level = below;
    }
    const { failure } = this.app.model.report;
    const failed = failure && this.structure.byPath.get(failure.path)?.find((item) => item.failed);
    if (failed) this.openTo(failed);
  }

  private openLevel(): void {
    const closed = this.scene.items.filter((item) => item.copies.length && !this.shown.open.has(item.id));
    let count = this.scene.items.length;
    for (const item of closed) {
      count += partsOf(item, this.shown).length;
      if (count > MOST_PARTS) break;
      this.shown.open.add(item.id);
    }
    this.redraw();
  }

  private closeAll(): void {
    this.shown.open.clear();
    this.redraw();
    this.canvas.scrollTop = 0;
  }

  private toggle(item: Item): void {
    if (!item.copies.length) return;
    this.keepingPlace(item, () => {
      if (this.shown.open.has(item.id)) this.shown.open.delete(item.id);
      else this.openWithin(item);
      this.redraw();
    });
  }

  /** Open a part; where too much would be in sight, close what was opened first. */
  private openWithin(item: Item): void {
    this.shown.open.add(item.id);
    const needed = new Set<string>([item.id]);
    for (let above = item.parent; above; above = above.parent) needed.add(above.id);
    const count = (at: Item): number => partsOf(at, this.shown).reduce((sum, child) => sum + 1 + (isOpen(child, this.shown) ? count(child) : 0), 0);
    for (const id of [...this.shown.open]) {
      if (count(this.structure.root) <= MOST_PARTS) return;
      if (!needed.has(id)) this.shown.open.delete(id);
    }
  }

  private openTo(item: Item): void {
    for (let at = item; at.parent; at = at.parent) {
      if (at.parent.kind === "fold") this.shown.copy.set(at.parent.id, at.copy);
      if (at.parent.parent) this.openWithin(at.parent);
    }
  }

  /** Another copy of a fold, opened as the one before was. */
  private step(item: Item, by: number): void {
    const before = this.shown.copy.get(item.id) ?? 0;
    const after = Math.max(0, Math.min(item.copies.length - 1, before + by));
    const same = (a: Item[], b: Item[]): void => a.forEach((one, index) => {
      const twin = b[index];
      if (!twin || !this.shown.open.has(one.id)) return;
      this.shown.open.add(twin.id);
      one.copies.forEach((list, copy) => same(list, twin.copies[copy] ?? []));
    });
    same(item.copies[before]!, item.copies[after]!);
    this.shown.copy.set(item.id, after);
    this.keepingPlace(item, () => this.redraw());
  }

  // ---------------------------------------------------------------- drawing

  private redraw(): void {
    const hadFocus = this.svg.contains(document.activeElement);
    this.scene = sceneOf(this.structure, this.app.model.step!, this.shown);
    const placed = layout(this.scene.level);
    const { elements, spots } = draw(placed, {
      structure: this.structure, scene: this.scene, shown: this.shown, describe: (item) => this.describe(item), explain: (flow) => this.explain(flow),
    });
    this.spots = spots;
    this.size = { width: placed.width, height: placed.height };
    const arrow = s("marker", { id: "graph-arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse", markerUnits: "userSpaceOnUse" }, s("path", { d: "M0 0.5 8 4 0 7.5z" }));
    replace(this.svg, s("defs", {}, arrow), ...elements);
    this.resized();
    if (this.current === null || !spots.has(this.current)) this.current = null;
    this.elementOf(this.current ?? this.scene.items[0]?.id)?.setAttribute("tabindex", "0");
    if (hadFocus) this.focus(this.current ?? this.scene.items[0]?.id, false);
    this.mark();
    this.look();
  }

  private resized(): void {
    const { width, height } = this.size;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", String(width * this.zoom));
    this.svg.setAttribute("height", String(height * this.zoom));
    replace(this.zoomed, `${Math.round(this.zoom * 100)} %`);
  }

  private elementOf(id: string | undefined | null): SVGElement | null {
    if (!id) return null;
    return [...this.svg.querySelectorAll<SVGElement>("[data-id]")].find((element) => element.dataset["id"] === id) ?? null;
  }

  private mark(): void {
    const { selected } = this.app.state;
    for (const element of this.svg.querySelectorAll<SVGElement>("[data-id]")) {
      const item = this.structure.byId.get(element.dataset["id"]!)!;
      const chosen = selected !== null && item.kind !== "operator" && this.stands(item, selected);
      element.classList.toggle("selected", chosen);
      element.setAttribute("aria-selected", String(chosen));
    }
  }

  /** Whether a part is the module, or a closed fold that has it as a copy. */
  private stands(item: Item, path: string): boolean {
    if (item.kind !== "fold") return item.path === path;
    if (this.shown.open.has(item.id)) return item.heads.length > 0 && pathOf(item, this.shown) === path;
    return [...item.heads, ...item.copies.flat()].some((child) => child.path === path && child.kind === "call");
  }

  // ---------------------------------------------------------------- selection

  private selected(): void {
    const { selected } = this.app.state;
    if (this.own || selected === null) return this.mark();
    const item = this.itemOf(selected);
    if (item && item !== this.structure.root) {
      if (![...this.spots.values()].some((spot) => this.stands(spot.item, selected))) {
        this.openTo(item);
        this.redraw();
      }
      const spot = [...this.spots.values()].find((one) => this.stands(one.item, selected)) ?? this.spots.get(item.id);
      if (spot) {
        this.current = spot.item.id;
        this.look();
        this.center(spot.item);
      }
    }
    this.mark();
  }

  /** The part that stands for a module: a list has none, so its first part does. */
  private itemOf(path: string): Item | undefined {
    const found = this.structure.byPath.get(path)?.[0];
    if (found || !path) return found;
    const part = this.app.model.byPath.get(path);
    for (const child of part?.children ?? []) {
      const below = this.structure.byPath.get(child.path)?.[0];
      if (below) return below;
    }
    return part?.parent ? this.structure.byPath.get(part.parent.path)?.[0] : undefined;
  }

  private choose(item: Item): void {
    this.current = item.id;
    this.look();
    const path = pathOf(item, this.shown);
    if (path === null) return;
    this.own = true;
    this.app.select(path);
    this.own = false;
  }

  private look(): void {
    const item = this.current ? this.structure.byId.get(this.current) : undefined;
    this.light(item?.id ?? null);
    details(this.aside, this.app, item ? this.looked(item) : null, {
      toggle: (one) => this.toggle(one), step: (one, by) => this.step(one, by), go: (one) => this.go(one), explain: (flow) => this.explain(flow), describe: (one) => this.describe(one),
    });
  }

  private looked(item: Item): Looked {
    return {
      item, path: item.kind === "operator" ? null : pathOf(item, this.shown), isOpen: this.shown.open.has(item.id), canOpen: item.copies.length > 0, copy: this.shown.copy.get(item.id) ?? 0,
      above: this.around(item, "above"), below: this.around(item, "below"),
    };
  }

  /** The parts next to one along the edges, also across the borders of containers. */
  private around(item: Item, side: "above" | "below"): { item: Item; flow: Flowing }[] {
    const container = item.parent;
    if (!container) return [];
    const edges = this.scene.edges.get(container);
    const found: { item: Item; flow: Flowing }[] = [];
    for (const flow of edges?.values() ?? []) {
      const [mine, other] = side === "above" ? [flow.to, flow.from] : [flow.from, flow.to];
      if (mine !== item.id) continue;
      const next = this.structure.byId.get(other);
      if (next) found.push({ item: next, flow });
      else found.push(...this.across(container, side, other, flow));
    }
    return found;
  }

  private across(container: Item, side: "above" | "below", port: string, flow: Flowing): { item: Item; flow: Flowing }[] {
    if (side === "below") return this.around(container, "below").map(({ item }) => ({ item, flow }));
    const source = this.structure.byId.get(port.replace(/^(in:)+/, ""));
    if (source) return [{ item: source, flow }];
    return this.around(container, "above").map(({ item }) => ({ item, flow }));
  }

  private go(item: Item): void {
    this.focus(item.id);
    this.look();
  }

  // ---------------------------------------------------------------- words

  private describe(item: Item): string {
    const words = [this.shown.open.has(item.id) ? titleOf(item, this.shown) : item.name];
    if (item.kind === "fold") words.push(item.type, t("fold", { n: item.copies.length }));
    else if (item.kind === "group") words.push(t("group", { n: item.copies[0]!.length }));
    else if (item.kind === "call") words.push(item.type, ...(item.calls > 1 ? [t("callOf", { k: item.number, n: item.calls })] : []));
    else words.push(t(item.kind), ...(item.kind === "operator" && item.path ? [item.path] : []));
    if (item.failed) words.push(t(item.failed === "here" ? "failedHere" : "failedInside"));
    return words.filter(Boolean).join(" · ");
  }

  private explain(flow: Flowing): string {
    const shape = flow.shape || t("noShape");
    if (flow.isGuess) return `${shape} · ${t("guess")}`;
    return flow.count > 1 ? t("several", { n: flow.count, shape }) : shape;
  }

  // ---------------------------------------------------------------- moving

  private listen(): void {
    const item = (event: Event) => this.structure.byId.get((event.target as Element).closest<SVGElement>("[data-id]")?.dataset["id"] ?? "");
    this.svg.addEventListener("click", (event) => {
      const clicked = item(event);
      if (!clicked || this.dragged) return;
      this.focus(clicked.id, false);
      if ((event.target as Element).closest(".opener")) this.toggle(clicked);
      else this.choose(clicked);
    });
    this.svg.addEventListener("dblclick", (event) => {
      const clicked = item(event);
      if (clicked && !(event.target as Element).closest(".opener")) this.toggle(clicked);
    });
    this.svg.addEventListener("pointerover", (event) => this.light(item(event)?.id ?? this.current));
    this.svg.addEventListener("pointerleave", () => this.light(this.current));
    this.svg.addEventListener("focusin", (event) => {
      const focused = item(event);
      if (!focused || this.current === focused.id) return;
      this.current = focused.id;
      this.look();
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 300), event);
    }, { passive: false });
    this.drag();
  }

  private dragged = false;

  /** The mouse drags the paper; fingers scroll it as they do everywhere. */
  private drag(): void {
    let start: { x: number; y: number; left: number; top: number } | null = null;
    this.canvas.addEventListener("pointerdown", (event) => {
      this.dragged = false;
      if (event.pointerType === "mouse" && event.button === 0) start = { x: event.clientX, y: event.clientY, left: this.canvas.scrollLeft, top: this.canvas.scrollTop };
    });
    globalThis.addEventListener("pointermove", (event: PointerEvent) => {
      if (!start) return;
      const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
      if (Math.hypot(dx, dy) > 5) this.dragged = true;
      if (!this.dragged) return;
      this.canvas.classList.add("dragging");
      this.canvas.scrollLeft = start.left - dx;
      this.canvas.scrollTop = start.top - dy;
    });
    globalThis.addEventListener("pointerup", () => {
      start = null;
      this.canvas.classList.remove("dragging");
    });
  }

  private light(id: string | null): void {
    for (const edge of this.svg.querySelectorAll<SVGElement>(".edge")) {
      edge.classList.toggle("lit", id !== null && (edge.dataset["from"] === id || edge.dataset["to"] === id || edge.dataset["from"] === `in:${id}`));
    }
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0") return this.done(event, () => this.fit());
    const part = (event.target as Element).closest<SVGElement>("[data-id]");
    if (!part) {
      if (event.key === "+" || event.key === "=") this.done(event, () => this.zoomBy(1.25));
      else if (event.key === "-") this.done(event, () => this.zoomBy(1 / 1.25));
      return;
    }
    const item = this.structure.byId.get(part.dataset["id"]!)!;
    const open = this.shown.open.has(item.id);
    const walks: Record<string, () => Item | undefined> = {
      ArrowDown: () => (open ? partsOf(item, this.shown)[0] : this.around(item, "below")[0]?.item),
      ArrowUp: () => this.upwards(item),
      ArrowLeft: () => this.beside(item, -1),
      ArrowRight: () => this.beside(item, 1),
      Home: () => this.scene.items[0],
      End: () => this.scene.items[this.scene.items.length - 1],
    };
    if (event.key in walks) {
      this.done(event, () => {
        const next = walks[event.key]!();
        if (next) this.go(next);
      });
    } else if (event.key === "Enter" || event.key === " ") this.done(event, () => this.choose(item));
    else if ((event.key === "+" || event.key === "=") && !open) this.done(event, () => this.toggle(item));
    else if (event.key === "-") this.done(event, () => this.close(item, open));
  }

  private done(event: Event, act: () => void): void {
    event.preventDefault();
    act();
  }

  /** Close the part, or what it is in. */
  private close(item: Item, open: boolean): void {
    const target = open ? item : item.parent;
    if (!target || target === this.structure.root) return;
    this.toggle(target);
    this.go(target);
  }

  /** Against the edges; from the first part of a container to the container. */
  private upwards(item: Item): Item | undefined {
    const container = item.parent;
    if (!container) return undefined;
    const inside = [...(this.scene.edges.get(container)?.values() ?? [])].find((flow) => flow.to === item.id);
    const before = inside && this.structure.byId.get(inside.from);
    if (before) return before;
    return container === this.structure.root ? undefined : container;
  }

  /** The next part at about the same height in the same container. */
  private beside(item: Item, by: number): Item | undefined {
    const spot = this.spots.get(item.id)!;
    const middle = (one: Spot) => one.y + one.height / 2;
    const row = [...this.spots.values()].filter((one) => one.item.parent === item.parent && Math.abs(middle(one) - middle(spot)) < (one.height + spot.height) / 2).sort((a, b) => a.x - b.x);
    return row[row.findIndex((one) => one.item === item) + by]?.item;
  }

  private focus(id: string | undefined, scroll = true): void {
    const element = this.elementOf(id);
    if (!element) return;
    for (const other of this.svg.querySelectorAll<SVGElement>('[tabindex="0"]')) other.setAttribute("tabindex", "-1");
    element.setAttribute("tabindex", "0");
    this.current = id!;
    element.focus({ preventScroll: true });
    if (scroll) this.into(this.spots.get(id!)!);
  }

  /** Scroll the canvas as little as needed. */
  private into({ x, y, width, height }: Spot): void {
    const { canvas, zoom } = this;
    const [left, top] = [x * zoom + this.svg.clientLeft + this.margin(), y * zoom];
    const tall = Math.min(height * zoom, canvas.clientHeight - 40);
    if (top < canvas.scrollTop + 16) canvas.scrollTop = top - 16;
    else if (top + tall > canvas.scrollTop + canvas.clientHeight - 16) canvas.scrollTop = top + tall - canvas.clientHeight + 16;
    const wide = Math.min(width * zoom, canvas.clientWidth - 40);
    if (left < canvas.scrollLeft + 16) canvas.scrollLeft = left - 16;
    else if (left + wide > canvas.scrollLeft + canvas.clientWidth - 16) canvas.scrollLeft = left + wide - canvas.clientWidth + 16;
  }

  private center(item: Item | undefined): void {
    const spot = item && this.spots.get(item.id);
    if (!spot) return;
    const { canvas, zoom } = this;
    canvas.scrollTop = (spot.y + Math.min(spot.height, 200) / 2) * zoom - canvas.clientHeight / 2;
    canvas.scrollLeft = (spot.x + spot.width / 2) * zoom + this.margin() - canvas.clientWidth / 2;
  }

  /** A graph that is narrower than its canvas stands in the middle. */
  private margin(): number {
    return Math.max(0, (this.canvas.clientWidth - this.size.width * this.zoom) / 2);
  }

  /** What was clicked stays under the pointer while the graph around it moves. */
  private keepingPlace(item: Item, act: () => void): void {
    const place = () => {
      const spot = this.spots.get(item.id);
      return spot ? [(spot.x + spot.width / 2) * this.zoom + this.margin() - this.canvas.scrollLeft, spot.y * this.zoom - this.canvas.scrollTop] : null;
    };
    const before = place();
    act();
    const after = place();
    if (!before || !after) return;
    this.canvas.scrollLeft += after[0]! - before[0]!;
    this.canvas.scrollTop += after[1]! - before[1]!;
  }

  private zoomBy(factor: number, at?: MouseEvent): void {
    const { canvas } = this;
    const box = canvas.getBoundingClientRect();
    const [px, py] = at ? [at.clientX - box.left, at.clientY - box.top] : [canvas.clientWidth / 2, canvas.clientHeight / 2];
    const before = this.zoom;
    const [x, y] = [(canvas.scrollLeft + px - this.margin()) / before, (canvas.scrollTop + py) / before];
    this.zoom = Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, before * factor));
    this.resized();
    canvas.scrollLeft = x * this.zoom + this.margin() - px;
    canvas.scrollTop = y * this.zoom - py;
  }

  private fit(): void {
    const { canvas, size } = this;
    this.zoom = Math.max(LEAST_ZOOM, Math.min(1.25, (canvas.clientWidth - 8) / size.width, (canvas.clientHeight - 8) / size.height));
    this.resized();
  }
}

export const graph: View = {
  shows: () => true,
  make(app: App): HTMLElement {
    const { model } = app;
    if (model.step && model.step.flow.node_call.length) return new GraphView(app).element;
    const { element, body } = block("graph", t("title"), t("reading"));
    body.append(h("p", { class: "empty" }, t(!model.hasRun ? "noRun" : model.step ? "empty" : "loaded")));
    return element;
  },
};
