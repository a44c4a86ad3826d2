// The model as a graph of nested boxes that open in place.

import "./graph.css";
import type { App } from "../../app";
import { h } from "../../dom";
import { typeColor } from "../../palette";
import { block, explained } from "../../view";
import type { View } from "../index";
import { details, shortened } from "./details";
import { draw, type Spot } from "./draw";
import { layout } from "./layout";
import { Opening } from "./opening";
import { Paper } from "./paper";
import { partsOf, pathOf, sceneOf, titleOf, type Flowing, type Scene, type Shown } from "./scene";
import { Structure, type Item } from "./structure";
import { Walk } from "./walk";
import { t } from "./words";

/** What is open outlives the view, which another language or a live change makes anew. */
const opened = new WeakMap<App, Shown>();

class GraphView {
  readonly element: HTMLElement;
  private readonly structure: Structure;
  private readonly opening: Opening;
  private readonly paper: Paper;
  private scene!: Scene;
  private walk!: Walk;
  private spots = new Map<string, Spot>();
  /** The part that has the focus of the keyboard, and whose details are shown. */
  private current: string | null = null;
  /** A selection that came from here needs no scrolling. */
  private own = false;
  private readonly aside = h("div", { class: "graph-details", role: "group", "aria-live": "polite", "aria-label": t("details") });

  constructor(private readonly app: App) {
    this.structure = new Structure(app.model, app.model.step!);
    this.opening = new Opening(this.structure, app.model, opened.get(app));
    opened.set(app, this.opening.shown);
    this.paper = new Paper(app);
    const { element, body } = block("graph", t("title"), t("reading"), explained(t("why"), t("whyLabel")));
    body.append(this.toolbar(), h("div", { class: "graph-body" }, this.paper.element, this.aside));
    this.element = element;
    this.listen();
    this.redraw();
    this.paper.settle();
    app.on((changed) => changed.has("selected") && this.selected());
    requestAnimationFrame(() => {
      this.paper.toMiddle();
      const { failure } = app.model.report;
      if (app.state.selected !== null) this.selected();
      else if (failure) this.paper.center(this.spotOf(failure.path));
    });
  }

  private toolbar(): HTMLElement {
    const button = (text: string, label: string, onclick: () => void) => h("button", { type: "button", "aria-label": label, title: label, onclick }, text);
    return h(
      "div", { class: "tools", role: "toolbar", "aria-label": t("canvas") },
      button("−", t("zoomOut"), () => this.paper.zoomOut()), this.paper.zoomed, button("+", t("zoomIn"), () => this.paper.zoomIn()), button(t("fit"), t("fit"), () => this.paper.fit()),
      button(t("openLevel"), t("openLevel"), () => this.openLevel()), button(t("closeAll"), t("closeAll"), () => this.closeAll()),
    );
  }

  // ---------------------------------------------------------------- what is open

  private openLevel(): void {
    this.opening.oneLevel(this.scene.items);
    this.redraw();
  }

  private closeAll(): void {
    this.opening.closeAll();
    this.redraw();
    this.paper.toTop();
  }

  private toggle(item: Item): void {
    if (!item.copies.length) return;
    if (this.opening.has(item)) this.opening.close(item);
    else this.opening.open(item);
    this.redrawAround(item);
  }

  private step(item: Item, by: number): void {
    this.opening.step(item, by);
    this.redrawAround(item);
    // The figures beside are now those of the other copy: so is the selection, if it was here.
    if (this.app.state.selected !== null && item.heads.some((head) => head.path === this.app.state.selected)) this.choose(item);
  }

  // ---------------------------------------------------------------- drawing

  private redrawAround(item: Item): void {
    this.paper.keepingPlace(() => this.spots.get(item.id), () => this.redraw());
  }

  private redraw(): void {
    const { svg } = this.paper;
    const hadFocus = svg.contains(document.activeElement);
    this.scene = sceneOf(this.structure, this.app.model.step!, this.opening.shown);
    const placed = layout(this.scene.level);
    const { elements, spots } = draw(placed, {
      structure: this.structure, scene: this.scene, shown: this.opening.shown, describe: (item) => this.describe(item), explain: (flow) => this.explain(flow), tone: (type) => typeColor(this.app.model, type),
      groupLabel: (item) => t("group", { n: item.size }),
    });
    this.spots = spots;
    this.walk = new Walk(this.structure, this.scene, spots);
    this.paper.show(elements, placed);
    if (this.current !== null && !spots.has(this.current)) this.current = null;
    const first = this.current ?? this.scene.items[0]?.id;
    this.elementOf(first)?.setAttribute("tabindex", "0");
    if (hadFocus) this.focus(first, false);
    this.mark();
    this.look();
  }

  private elementOf(id: string | undefined | null): SVGElement | null {
    return id ? this.paper.svg.querySelector<SVGElement>(`[data-id="${CSS.escape(id)}"]`) : null;
  }

  private mark(): void {
    const { selected } = this.app.state;
    for (const element of this.paper.svg.querySelectorAll<SVGElement>("[data-id]")) {
      const item = this.structure.byId.get(element.dataset["id"]!)!;
      const chosen = selected !== null && item.kind !== "operator" && this.stands(item, selected);
      element.classList.toggle("selected", chosen);
      element.setAttribute("aria-selected", String(chosen));
    }
  }

  private light(id: string | null): void {
    for (const edge of this.paper.svg.querySelectorAll<SVGElement>(".edge")) {
      edge.classList.toggle("lit", id !== null && [edge.dataset["from"], edge.dataset["to"]].some((end) => end === id || end === `in:${id}`));
    }
  }

  // ---------------------------------------------------------------- selection

  /** Whether a part is the module, or a closed fold that has it as a copy. */
  private stands(item: Item, path: string): boolean {
    if (item.kind !== "fold") return item.path === path;
    if (this.opening.has(item)) return item.heads.length > 0 && pathOf(item, this.opening.shown) === path;
    return (item.heads.length ? item.heads : item.copies.flat()).some((child) => child.path === path && child.kind === "call");
  }

  private spotOf(path: string): Spot | undefined {
    return [...this.spots.values()].find((spot) => spot.item.kind !== "operator" && this.stands(spot.item, path));
  }

  /** Another view selected a module: open what is around it and bring it into sight. */
  private selected(): void {
    const { selected } = this.app.state;
    const item = this.own || selected === null ? undefined : this.itemOf(selected);
    if (!item || item === this.structure.root) return this.mark();
    if (!this.spotOf(selected!)) {
      this.opening.to(item);
      this.redraw();
    }
    const spot = this.spotOf(selected!) ?? this.spots.get(item.id);
    if (spot) {
      this.current = spot.item.id;
      this.look();
      this.paper.center(spot);
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
    const path = pathOf(item, this.opening.shown);
    if (path === null) return;
    this.own = true;
    this.app.select(path);
    this.own = false;
  }

  /** Show what is known about the current part. */
  private look(): void {
    const item = this.current ? this.structure.byId.get(this.current) : undefined;
    this.light(item?.id ?? null);
    const looked = item && {
      item, path: item.kind === "operator" ? null : pathOf(item, this.opening.shown), isOpen: this.opening.has(item), canOpen: item.copies.length > 0,
      copy: this.opening.copyOf(item), above: this.walk.around(item, "above"), below: this.walk.around(item, "below"),
    };
    details(this.aside, this.app, looked ?? null, {
      toggle: (one) => this.toggle(one), step: (one, by) => this.step(one, by), go: (one) => this.go(one), explain: (flow) => this.explain(flow), describe: (one) => this.describe(one),
    });
  }

  // ---------------------------------------------------------------- words

  private describe(item: Item): string {
    const isClosedFold = item.kind === "fold" && !this.opening.has(item);
    const words = [isClosedFold ? `${item.name} × ${item.copies.length}` : titleOf(item, this.opening.shown)];
    if (item.kind === "fold") words.push(item.type, t("fold", { n: item.copies.length }));
    else if (item.kind === "group") words.push(t("group", { n: item.size }));
    else if (item.kind === "call") words.push(item.type, ...(item.calls > 1 ? [t("callOf", { k: item.number, n: item.calls })] : []));
    else words.push(t(item.kind), ...(item.kind === "operator" && item.path ? [item.path] : []));
    if (item.failed) words.push(t(item.failed === "here" ? "failedHere" : "failedInside"));
    return words.filter(Boolean).map((word) => shortened(word)).join(" · ");
  }

  private explain(flow: Flowing): string {
    const shape = flow.shape || t("noShape");
    if (flow.isGuess) return `${shape} · ${t("guess")}`;
    return flow.count > 1 ? t("several", { n: flow.count, shape }) : shape;
  }

  // ---------------------------------------------------------------- pointer and keys

  private listen(): void {
    const { svg, element } = this.paper;
    const item = (event: Event) => this.structure.byId.get((event.target as Element).closest<SVGElement>("[data-id]")?.dataset["id"] ?? "");
    svg.addEventListener("click", (event) => {
      const clicked = item(event);
      if (!clicked || this.paper.dragged) return;
      this.focus(clicked.id, false);
      if ((event.target as Element).closest(".opener")) this.toggle(clicked);
      else this.choose(clicked);
    });
    svg.addEventListener("dblclick", (event) => {
      const clicked = item(event);
      if (clicked && !(event.target as Element).closest(".opener")) this.toggle(clicked);
    });
    svg.addEventListener("pointerover", (event) => this.light(item(event)?.id ?? this.current));
    svg.addEventListener("pointerleave", () => this.light(this.current));
    svg.addEventListener("focusin", (event) => {
      const focused = item(event);
      if (!focused || this.current === focused.id) return;
      this.current = focused.id;
      this.look();
    });
    element.addEventListener("keydown", (event) => this.key(event));
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const part = (event.target as Element).closest<SVGElement>("[data-id]");
    const act = part ? this.partKey(event.key, this.structure.byId.get(part.dataset["id"]!)!) : this.paperKey(event.key);
    if (!act) return;
    event.preventDefault();
    act();
  }

  private paperKey(key: string): (() => void) | undefined {
    const acts: Record<string, () => void> = { "+": () => this.paper.zoomIn(), "=": () => this.paper.zoomIn(), "-": () => this.paper.zoomOut(), "0": () => this.paper.fit() };
    return acts[key];
  }

  private partKey(key: string, item: Item): (() => void) | undefined {
    const { items } = this.scene;
    const isOpen = this.opening.has(item);
    const to = (next: () => Item | undefined) => () => this.go(next());
    const open = () => {
      if (!isOpen) this.toggle(item);
    };
    const acts: Record<string, () => void> = {
      ArrowDown: to(() => (isOpen ? partsOf(item, this.opening.shown)[0] : this.walk.around(item, "below")[0]?.item)),
      ArrowUp: to(() => this.walk.upwards(item)),
      ArrowLeft: to(() => this.walk.beside(item, -1)),
      ArrowRight: to(() => this.walk.beside(item, 1)),
      Home: to(() => items[0]),
      End: to(() => items[items.length - 1]),
      Enter: () => this.choose(item), " ": () => this.choose(item),
      "+": open, "=": open, "-": () => this.close(item),
      "0": () => this.paper.fit(),
    };
    return acts[key];
  }

  /** Close the part, or what it is in. */
  private close(item: Item): void {
    const target = this.opening.has(item) ? item : item.parent;
    if (!target || target === this.structure.root) return;
    this.toggle(target);
    this.go(target);
  }

  private go(item: Item | undefined): void {
    if (!item) return;
    this.focus(item.id);
    this.look();
  }

  private focus(id: string | undefined, scroll = true): void {
    const element = this.elementOf(id);
    if (!element) return;
    for (const other of this.paper.svg.querySelectorAll<SVGElement>('[tabindex="0"]')) other.setAttribute("tabindex", "-1");
    element.setAttribute("tabindex", "0");
    this.current = id!;
    element.focus({ preventScroll: true });
    if (scroll) this.paper.into(this.spots.get(id!)!);
  }
}

export const graph: View = {
  shows: () => true,
  make(app: App): HTMLElement {
    const { model } = app;
    if (model.step && model.step.flow.node_call.length) return new GraphView(app).element;
    const { element, body } = block("graph", t("title"), t("reading"));
    body.append(h("p", { class: "empty-state" }, t(!model.hasRun ? "noRun" : model.step ? "empty" : "loaded")));
    return element;
  },
};
