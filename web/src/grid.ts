// A table of any length that only draws the rows in sight: a treegrid with sticky head and name.
//
// The caller flattens its tree into rows and says what each cell shows; the grid scrolls, moves the
// focus (arrows, Home, End, Page keys, Enter) and reports what was opened, sorted or chosen.

import { h, replace, type Child } from "./dom";
import "./grid.css";

export interface Cell {
  text: string;
  /** The exact figure or the whole text, shown on hover. */
  title?: string;
  /** The number in the JSON and its name, for tests and for copying. */
  value?: number;
  field?: string;
  /** Share of a bar in the background, 0 to 1. */
  bar?: number;
  quiet?: boolean;
}

export interface GridColumn<R> {
  id: string;
  title: string;
  /** What the column means, where the title is short. */
  hint?: string;
  width: number;
  number?: boolean;
  mono?: boolean;
  cell(row: R): Cell;
}

export interface Names {
  children: Child[];
  title?: string;
}

export interface GridOptions<R> {
  label: string;
  nameTitle: string;
  nameWidth?: number;
  key(row: R): string;
  name(row: R): Names;
  level(row: R): number;
  /** null where nothing is below. */
  expanded(row: R): boolean | null;
  selected(row: R): boolean;
  /** Further classes of a row: failed, strong. */
  tone?(row: R): string;
  toggle(row: R): void;
  choose(row: R): void;
  sort(column: string): void;
  empty: string;
  /** How many rows paper has at most. */
  printed: number;
  /** Aborted when the grid is thrown away. */
  signal: AbortSignal;
}

export type Direction = "ascending" | "descending";

const HEIGHT = 30;
const BEYOND = 6;
const PAGE = 12;
/** As grid.css has it. */
const MOST_HEIGHT = 620;
const BORDERS = 4;

export class Grid<R> {
  readonly element: HTMLElement;
  private readonly head = h("div", { class: "grid-head", role: "rowgroup" });
  private readonly body = h("div", { class: "grid-body", role: "rowgroup" });
  private readonly foot = h("div", { class: "grid-foot", role: "rowgroup" });
  private readonly nothing: HTMLElement;
  private columns: GridColumn<R>[] = [];
  private rows: R[] = [];
  private last: R | null = null;
  private drawn = new Map<number, HTMLElement>();
  private active = 0;
  private least = 0;
  private waiting = false;
  private printing = false;

  constructor(private readonly options: GridOptions<R>) {
    this.nothing = h("p", { class: "grid-empty", hidden: true }, options.empty);
    this.element = h("div", { class: "grid", role: "treegrid", "aria-label": options.label }, this.head, this.body, this.foot);
    this.element.addEventListener("scroll", () => this.soon(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => this.click(event));
    this.body.addEventListener("focusin", (event) => this.focused(event.target as HTMLElement));
    new ResizeObserver(() => this.soon()).observe(this.element);
    this.element.append(this.nothing);
    globalThis.addEventListener("beforeprint", () => this.print(true), { signal: options.signal });
    globalThis.addEventListener("afterprint", () => this.print(false), { signal: options.signal });
  }

  setColumns(columns: GridColumn<R>[], sorted: { column: string; direction: Direction } | null): void {
    this.columns = columns;
    const name = this.options.nameWidth ?? 280;
    const widths = columns.map((column) => `${column.width}px`);
    this.element.style.setProperty("--columns", `minmax(min(46vw, ${name}px), 1fr) ${widths.join(" ")}`);
    this.element.style.setProperty("--least", `calc(min(46vw, ${name}px) + ${columns.reduce((sum, column) => sum + column.width, 0)}px)`);
    this.element.setAttribute("aria-colcount", String(columns.length + 1));
    const titles = [{ id: "name", title: this.options.nameTitle, number: false, hint: undefined }, ...columns];
    const focused = this.head.contains(document.activeElement) ? (document.activeElement as HTMLElement).dataset["column"] : null;
    replace(this.head, h("div", { class: "grid-row", role: "row", "aria-rowindex": 1 }, ...titles.map((column, index) => {
      const here = sorted?.column === column.id;
      const mark = here ? (sorted.direction === "descending" ? " ↓" : " ↑") : "";
      return h(
        "div", { role: "columnheader", "aria-colindex": index + 1, "aria-sort": here ? sorted.direction : "none", class: column.number ? "number" : "" },
        h("button", { type: "button", "data-column": column.id, title: column.hint ?? column.title, onclick: () => this.options.sort(column.id) }, column.title + mark),
      );
    })));
    if (focused) this.head.querySelector<HTMLElement>(`[data-column="${focused}"]`)?.focus();
  }

  setRows(rows: R[], last: R | null = null): void {
    const focused = this.rows[this.active];
    const key = focused === undefined ? null : this.options.key(focused);
    this.rows = rows;
    this.last = last;
    const found = key === null ? -1 : rows.findIndex((row) => this.options.key(row) === key);
    this.active = Math.max(0, found >= 0 ? found : Math.min(this.active, rows.length - 1));
    this.body.style.height = `${rows.length * HEIGHT}px`;
    // It never shrinks: what stands below would jump at every letter of a search.
    this.least = Math.max(this.least, Math.min(MOST_HEIGHT, (rows.length + 1 + (last ? 1 : 0)) * HEIGHT + BORDERS));
    this.element.style.minHeight = `min(70vh, ${this.least}px)`;
    this.element.setAttribute("aria-rowcount", String(rows.length + 1 + (last ? 1 : 0)));
    this.nothing.hidden = rows.length > 0;
    this.refresh();
  }

  /** Draw the rows in sight again. */
  refresh(): void {
    const hadFocus = this.body.contains(document.activeElement);
    this.drawn.clear();
    this.body.replaceChildren();
    replace(this.foot, this.last ? this.row(this.last, this.rows.length, true) : null);
    this.draw();
    if (hadFocus) this.focus(this.active);
  }

  indexOf(test: (row: R) => boolean): number {
    return this.rows.findIndex(test);
  }

  /** Bring a row into sight, without moving the page or the focus. */
  reveal(index: number): void {
    if (index < 0) return;
    if (!this.body.contains(document.activeElement)) this.active = index;
    const above = index * HEIGHT;
    const height = this.element.clientHeight - this.head.clientHeight - this.foot.clientHeight;
    if (above < this.element.scrollTop || above + HEIGHT > this.element.scrollTop + height) {
      this.element.scrollTop = Math.max(0, above - height / 2);
    }
    this.refresh();
  }

  /** Paper does not scroll: it has the first rows, all that fit a few pages. */
  private print(on: boolean): void {
    this.printing = on;
    this.body.style.height = `${(on ? Math.min(this.rows.length, this.options.printed) : this.rows.length) * HEIGHT}px`;
    this.refresh();
  }

  private soon(): void {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  private draw(): void {
    const top = this.printing ? 0 : this.element.scrollTop;
    // Before it is laid out a screenful is drawn.
    const height = this.printing ? this.options.printed * HEIGHT : this.element.clientHeight || 600;
    const first = Math.max(0, Math.floor(top / HEIGHT) - BEYOND);
    const end = Math.min(this.rows.length, Math.ceil((top + height) / HEIGHT) + BEYOND);
    for (const [index, element] of this.drawn) {
      // The focused row stays, else the keys would go nowhere.
      if ((index < first || index >= end) && !element.contains(document.activeElement)) {
        element.remove();
        this.drawn.delete(index);
      }
    }
    const fresh: HTMLElement[] = [];
    for (let index = first; index < end; index += 1) {
      if (this.drawn.has(index)) continue;
      const element = this.row(this.rows[index]!, index, false);
      this.drawn.set(index, element);
      fresh.push(element);
    }
    this.body.append(...fresh);
    if (this.rows.length && !this.body.querySelector('[tabindex="0"]')) this.drawn.get(Math.min(Math.max(this.active, first), end - 1))?.setAttribute("tabindex", "0");
  }

  private row(row: R, index: number, isLast: boolean): HTMLElement {
    const { options } = this;
    const level = isLast ? 1 : options.level(row);
    const expanded = isLast ? null : options.expanded(row);
    const names = options.name(row);
    const chosen = !isLast && options.selected(row);
    const tone = options.tone?.(row) ?? "";
    const element = h(
      "div",
      {
        class: `grid-row ${tone}${chosen ? " selected" : ""}${index % 2 ? " odd" : ""}`, role: "row", "aria-rowindex": index + 2, "aria-level": level,
        "aria-expanded": expanded === null ? null : String(expanded), "aria-selected": isLast ? null : String(chosen),
        tabindex: isLast ? null : index === this.active ? 0 : -1, "data-key": isLast ? "total" : options.key(row), "data-index": index,
      },
      h(
        "div", { class: "name", role: "rowheader", "aria-colindex": 1, style: `--level: ${level - 1}`, title: names.title },
        expanded === null ? h("span", { class: "twisty" }) : h("span", { class: "twisty open-close", "aria-hidden": "true" }, expanded ? "▾" : "▸"),
        ...names.children,
      ),
      ...this.columns.map((column, place) => {
        const cell = column.cell(row);
        return h(
          "div",
          {
            role: "gridcell", "aria-colindex": place + 2, title: cell.title ?? (cell.text.length > 12 ? cell.text : null),
            class: `${column.number ? "number" : ""}${column.mono ? " mono" : ""}${cell.quiet ? " quiet" : ""}${cell.bar ? " shaded" : ""}`,
            style: cell.bar ? `--share: ${(100 * Math.min(1, cell.bar)).toFixed(2)}%` : null, "data-value": cell.value, "data-field": cell.field,
          },
          cell.text,
        );
      }),
    );
    if (!isLast) element.style.transform = `translateY(${index * HEIGHT}px)`;
    return element;
  }

  private click(event: MouseEvent): void {
    const target = event.target as HTMLElement;
    const element = target.closest<HTMLElement>(".grid-row");
    if (!element || String(getSelection()).length > 0) return;
    const index = Number(element.dataset["index"]);
    const row = this.rows[index];
    if (row === undefined) return;
    this.focus(index);
    if (target.closest(".open-close")) this.options.toggle(row);
    else this.options.choose(row);
  }

  /** The row that has the focus is the one that the keys move from, however it got there. */
  private focused(target: HTMLElement): void {
    const index = Number(target.closest<HTMLElement>(".grid-row")?.dataset["index"]);
    if (!Number.isInteger(index) || index === this.active) return;
    for (const element of this.body.querySelectorAll<HTMLElement>('[tabindex="0"]')) element.tabIndex = -1;
    target.tabIndex = 0;
    this.active = index;
  }

  private key(event: KeyboardEvent): void {
    if (!this.body.contains(event.target as Node) || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.rows[this.active];
    if (row === undefined) return;
    const open = this.options.expanded(row);
    const end = this.rows.length - 1;
    const moves: Record<string, number> = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, Home: 0, End: end, PageDown: this.active + PAGE, PageUp: this.active - PAGE,
    };
    if (event.key in moves) this.focus(Math.max(0, Math.min(end, moves[event.key]!)));
    else if (event.key === "ArrowRight" && open === false) this.options.toggle(row);
    else if (event.key === "ArrowRight" && open) this.focus(Math.min(end, this.active + 1));
    else if (event.key === "ArrowLeft" && open) this.options.toggle(row);
    else if (event.key === "ArrowLeft") this.focus(this.above(this.active));
    else if (event.key === "Enter" || event.key === " ") this.options.choose(row);
    else return;
    event.preventDefault();
  }

  private above(index: number): number {
    const level = this.options.level(this.rows[index]!);
    for (let at = index - 1; at >= 0; at -= 1) if (this.options.level(this.rows[at]!) < level) return at;
    return index;
  }

  private focus(index: number): void {
    this.active = index;
    const top = index * HEIGHT;
    const height = this.element.clientHeight - this.head.clientHeight - this.foot.clientHeight;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + HEIGHT > this.element.scrollTop + height) this.element.scrollTop = top + HEIGHT - height;
    const before = this.body.querySelectorAll<HTMLElement>('[tabindex="0"]');
    this.draw();
    for (const element of before) element.tabIndex = -1;
    const element = this.drawn.get(index);
    if (!element) return;
    element.tabIndex = 0;
    element.focus({ preventScroll: true });
  }
}
