// The boxes as buttons: placed in percent, so that a new width costs nothing; moved when zoomed.

import type { App } from "../../app";
import { boxField, Boxes } from "../../boxes";
import { tableElement } from "../../chart";
import { h, replace } from "../../dom";
import { exact, figure } from "../../figure";
import { share } from "../../format";
import { texts } from "../../language";
import { measured, type Measured } from "../../measures";
import type { Part } from "../../model";
import { typeColor } from "../../palette";
import { type Cell, layout, MOST_ROWS } from "./layout";
import { visible } from "../../visible";

const t = texts(
  {
    label: "Modules by {measure}. Arrow keys move, Enter zooms in, Backspace zooms out.", merged: "{n} narrow modules", equal: "{n} equal modules",
    whole: "{share} of the model", itself: "{value} of it itself", table: "Below {name}: {measure}", module: "Module", type: "Type", share: "Share", zoomOut: "zooms out",
  },
  {
    label: "按{measure}显示模块。方向键移动，回车放大，退格缩小。", merged: "{n} 个较窄的模块", equal: "{n} 个相同的模块",
    whole: "占模型的 {share}", itself: "其中自身 {value}", table: "{name} 之下：{measure}", module: "模块", type: "类型", share: "占比", zoomOut: "缩小",
  },
);

const NARROWEST_PX = 3;
const TEXT_PX = 46;
const ROW_PX = 46;
const FALLBACK_PX = 1200;

/** The view is made anew in another language or for another answer, and stays where it was. */
const kept = new WeakMap<App, { path: string; open: boolean }>();

export class Icicle {
  readonly element: HTMLElement;
  zoom: Part;
  /** Whether equal children of the zoomed module stand one by one. */
  private open = false;
  private cells: Cell[] = [];
  private readonly area: HTMLElement;
  private readonly readable = h("div", { class: "visually-hidden" });
  private readonly shown = new Map<string, HTMLButtonElement>();
  private drawnWidth = 0;
  private focused = "";

  constructor(private readonly app: App, private readonly say: (text: string) => void, private readonly zoomed: () => void) {
    const { path, open } = kept.get(app) ?? { path: "", open: false };
    const part = app.model.byPath.get(path);
    this.zoom = part ?? app.model.root;
    this.open = part !== undefined && open;
    this.area = h("div", { class: "icicle", role: "group", onkeydown: (event: KeyboardEvent) => this.key(event), onpointerleave: () => this.sayZoomed() });
    this.element = h("div", {}, this.area, this.readable);
    const size = new ResizeObserver(() => {
      if (Math.abs(this.area.clientWidth - this.drawnWidth) > 0.1 * this.drawnWidth) this.draw();
    });
    size.observe(this.area);
    app.signal.addEventListener("abort", () => size.disconnect());
  }

  zoomTo(part: Part, open = part !== this.app.model.root): void {
    this.zoom = part;
    this.open = open;
    kept.set(this.app, { path: part.path, open });
    this.draw();
    this.zoomed();
  }

  /** Mark the selected module; zoom out when it is not below what is shown. */
  follow(path: string | null): void {
    const part = path === null ? undefined : this.app.model.byPath.get(path);
    if (part && !isBelow(part, this.zoom)) this.zoomTo(this.app.model.root);
    this.mark();
  }

  draw(): void {
    const { model } = this.app;
    const measure = measured(model, this.app.state.measure);
    const boxes = new Boxes(model, measure.cost, this.open ? this.zoom : null);
    const width = this.area.clientWidth || FALLBACK_PX;
    this.drawnWidth = width;
    this.cells = layout(boxes, boxes.of(this.zoom), NARROWEST_PX / width);
    const rows = Math.min(MOST_ROWS, 1 + Math.max(...this.cells.map((cell) => cell.row)));
    this.area.style.height = `${rows * ROW_PX}px`;
    this.area.setAttribute("aria-label", t("label", { measure: measure.label }));
    const gone = new Map(this.shown);
    this.shown.clear();
    const whole = model.total(model.root, measure.cost);
    for (const cell of this.cells) {
      const key = keyOf(cell);
      const element = gone.get(key) ?? h("button", { type: "button", class: "cell" });
      gone.delete(key);
      this.shown.set(key, element);
      this.dress(element, cell, measure, whole, width);
    }
    for (const element of gone.values()) element.remove();
    // In the order of reading, but an element that stays is not moved: it would lose the focus.
    let before: Element | null = null;
    for (const element of this.shown.values()) {
      const place: ChildNode | null = before ? before.nextSibling : this.area.firstChild;
      if (place !== element) this.area.insertBefore(element, place);
      before = element;
    }
    if (!this.shown.has(this.focused)) this.focused = keyOf(this.cells[0]!);
    this.tab();
    this.mark();
    this.table(boxes, measure);
    this.sayZoomed();
  }

  private dress(element: HTMLButtonElement, cell: Cell, measure: Measured, whole: number, width: number): void {
    const { box, merged } = cell;
    const first = box.parts[0]!;
    const inner = first.children.length > 0;
    const color = merged ? "type-rest" : inner ? "type-box" : typeColor(this.app.model, first.module.type);
    element.style.cssText = `left:${100 * cell.left}%;width:${100 * cell.width}%;top:${cell.row * ROW_PX}px;background-color:var(--${color})`;
    element.dataset["path"] = first.path;
    element.dataset["row"] = String(cell.row);
    element.dataset["count"] = String(merged || box.parts.length);
    element.classList.toggle("merged", merged > 0);
    const text = describe(cell, measure, whole);
    element.title = visible(cell.row === 0 && this.zoom.parent ? `${text} · ${t("zoomOut")}` : text);
    element.onclick = () => this.click(cell);
    element.onpointerenter = () => this.say(text);
    element.onfocus = () => {
      this.focused = keyOf(cell);
      this.tab();
      this.say(text);
    };
    const room = cell.width * width;
    const bare = merged > 0 || room < TEXT_PX;
    element.classList.toggle("bare", bare);
    // What is written in a box names it, and its title describes it.
    if (bare) element.setAttribute("aria-label", text);
    else element.removeAttribute("aria-label");
    if (bare) return replace(element);
    const name = box.fold > 1 ? first.module.type : first === this.app.model.root ? first.name : localName(box.name, cell.parent);
    replace(
      element,
      h("span", { class: "name" }, h("bdi", {}, name), box.fold > 1 && ` × ${box.fold}`),
      h("span", { class: "sub" }, figure(boxField("modules", box, measure.cost), box.value, measure.format(box.value)), ` · ${share(box.value, whole)}`),
    );
  }

  private click(cell: Cell): void {
    const { box, row } = cell;
    const first = box.parts[0]!;
    const parent = first.parent;
    if (row === 0) {
      this.app.select(first.path || null);
      if (parent) this.zoomTo(parent);
      else if (this.open) this.zoomTo(first, false);
      return;
    }
    this.app.select(first.path);
    if (cell.merged || box.fold > 1) this.zoomTo(parent!, true);
    else if (first.children.length) this.zoomTo(first);
  }

  private key(event: KeyboardEvent): void {
    const at = this.cells.find((cell) => keyOf(cell) === this.focused);
    if (!at) return;
    const row = this.cells.filter((cell) => cell.row === at.row);
    const place = row.indexOf(at);
    const next: Record<string, Cell | null | undefined> = {
      ArrowRight: row[place + 1],
      ArrowLeft: row[place - 1],
      ArrowDown: this.cells.find((cell) => cell.parent === at),
      ArrowUp: at.parent,
      Home: this.cells[0],
    };
    if (event.key === "Backspace" || event.key === "-") {
      this.click(this.cells[0]!);
      this.shown.get(keyOf(this.cells[0]!))?.focus();
    } else if (event.key in next) {
      const target = next[event.key];
      if (target) this.shown.get(keyOf(target))?.focus();
    } else return;
    event.preventDefault();
  }

  /** One box is in the tab order; arrow keys reach the others. */
  private tab(): void {
    for (const [key, element] of this.shown) element.tabIndex = key === this.focused ? 0 : -1;
  }

  private mark(): void {
    const { selected } = this.app.state;
    const { failure } = this.app.model.report;
    const marked = new Set(selected === null ? [] : this.holding(selected));
    const failed = new Set(failure ? this.holding(failure.path) : []);
    for (const [key, element] of this.shown) {
      element.toggleAttribute("data-selected", marked.has(key));
      element.toggleAttribute("data-failed", failed.has(key));
    }
  }

  /** The module itself, or the innermost boxes that are shown and hold it. */
  private holding(path: string): string[] {
    let at = this.app.model.byPath.get(path);
    const found: string[] = [];
    for (; at && !found.length; at = at.parent ?? undefined) {
      for (const cell of this.cells) if (!cell.merged && cell.box.parts.includes(at)) found.push(keyOf(cell));
    }
    return found;
  }

  private table(boxes: Boxes, measure: Measured): void {
    const root = this.cells[0]!.box;
    const rows = boxes.children(root).map((box) => [box.name + (box.fold > 1 ? ` × ${box.fold}` : ""), box.parts[0]!.module.type, measure.format(box.value), share(box.value, root.value)]);
    replace(this.readable, tableElement({ caption: t("table", { name: root.name, measure: measure.label }), head: [t("module"), t("type"), measure.label, t("share")], rows }));
  }

  private sayZoomed(): void {
    const measure = measured(this.app.model, this.app.state.measure);
    this.say(describe(this.cells[0]!, measure, this.app.model.total(this.app.model.root, measure.cost)));
  }
}

function describe({ box, merged, width }: Cell, measure: Measured, whole: number): string {
  if (merged) return `${t("merged", { n: merged })} (${share(width, 1)})`;
  const parts = [`${box.name} (${box.parts[0]!.module.type})`];
  if (box.parts.length > 1) parts.push(t("equal", { n: box.parts.length }));
  parts.push(`${measure.label}: ${measure.format(box.value)} (${exact(box.value)})`, t("whole", { share: share(box.value, whole) }));
  if (box.own > 0 && box.own < box.value) parts.push(t("itself", { value: measure.format(box.own) }));
  return parts.join(" · ");
}

const keyOf = ({ box, merged }: Cell): string => `${box.parts[0]!.index}.${box.parts.length}.${merged ? "m" : ""}`;

function localName(name: string, parent: Cell | null): string {
  const above = parent?.box.name ?? "";
  return above && name.startsWith(`${above}.`) ? name.slice(above.length + 1) : name;
}

function isBelow(part: Part, above: Part): boolean {
  for (let at: Part | null = part; at; at = at.parent) if (at === above) return true;
  return false;
}
