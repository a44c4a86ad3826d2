// Every module with all the terminal's columns: a tree to open, search, sort, filter and copy.

import type { App } from "../../app";
import { copyText } from "../../copy";
import { h, replace } from "../../dom";
import { integer } from "../../format";
import { Grid, type Direction } from "../../grid";
import { texts } from "../../language";
import type { Model } from "../../model";
import { block, explained } from "../../view";
import type { View } from "../index";
import { cellOf, defaults, offered, rawValue, titleOf, type Column, type ColumnName } from "./columns";
import { csv, flat, latex, markdown, type Copied, type Shown } from "./copy";
import { marksOf } from "./marks";
import { Rows, type Row } from "./rows";

const t = texts(
  {
    title: "Table", reading: "Every layer and what it costs. Open rows with ▸. Sorting by a column lists the layers without the tree; a third click brings the tree back.",
    why: "A row's figures are those of everything below it, of all N modules in a row marked × N. Rows without rows below them add up to the totals. (functional) is what a module computes itself, outside its sub-modules. Figures in parentheses are shared parameters, counted in another row.",
    whyLabel: "How the rows add up", layer: "Layer", total: "Whole model", search: "Search layers and types", searchHint: "Search layers and types ( / )", allTypes: "All types", type: "Type",
    columns: "Columns", copy: "Copy", fold: "Fold equal layers", openAll: "Open all", closeAll: "Close all", shown: "{n} of {all} rows", copied: "{n} rows copied as {what}", notCopied: "The browser did not let the page copy",
    empty: "No layer matches. Clear the search or choose all types.",
  },
  {
    title: "表格", reading: "每一层及其开销。点 ▸ 展开；按列排序时只列出各层，不显示树；第三次点击恢复树形。",
    why: "一行的数字包含其下的全部内容；标有 × N 的行是 N 个模块之和。没有下级行的各行相加等于总计。(functional) 是模块自身在子模块之外的计算。括号中的数字是共享参数，已在别的行计入。",
    whyLabel: "各行如何相加", layer: "层", total: "整个模型", search: "搜索层和类型", searchHint: "搜索层和类型（/）", allTypes: "全部类型", type: "类型",
    columns: "列", copy: "复制", fold: "折叠相同的层", openAll: "全部展开", closeAll: "全部收起", shown: "共 {all} 行，显示 {n} 行", copied: "已将 {n} 行复制为 {what}", notCopied: "浏览器不允许页面复制",
    empty: "没有匹配的层。请清空搜索或选择全部类型。",
  },
);

/** Rows that are open at first: no more than fill the table's height. */
const FIRST_ROWS = 20;

/** What a reader arranged: it outlives the views, which another language or a live change makes anew. */
interface Arranged {
  open: Set<string>;
  chosen: Set<ColumnName>;
  fold: boolean;
  sorted: { column: string; direction: Direction } | null;
}

const arranged = new WeakMap<App, Arranged>();

class TableView {
  readonly element: HTMLElement;
  private readonly model: Model;
  private readonly grid: Grid<Shown>;
  private readonly said = h("span", { class: "said", role: "status" });
  private readonly search: HTMLInputElement;
  private readonly types: HTMLSelectElement;
  private rows: Rows;
  private readonly own: Arranged;
  private shown: Shown[] = [];

  constructor(private readonly app: App) {
    this.model = app.model;
    const before = arranged.get(app);
    this.own = before ?? { open: new Set(), chosen: new Set(defaults(this.model)), fold: true, sorted: null };
    arranged.set(app, this.own);
    if (!offered(this.model).some((column) => column.name === this.own.sorted?.column)) this.own.sorted = null;
    this.rows = this.made();
    if (!before) this.openFirst();
    this.search = h("input", { type: "search", placeholder: t("searchHint"), "aria-label": t("search"), oninput: () => this.list() });
    this.types = h("select", { "aria-label": t("type"), onchange: () => this.list() }, h("option", { value: "" }, t("allTypes")), ...this.typeNames().map((name) => h("option", { value: name }, name)));
    this.grid = new Grid<Shown>({
      label: t("title"), nameTitle: t("layer"), empty: t("empty"), signal: app.signal, printed: 200,
      key: ({ row }) => row.key, level: ({ level }) => level + 1, name: (shown) => this.name(shown),
      expanded: ({ row, expanded }) => (row.children.length && !this.isFlat ? expanded : null),
      selected: ({ row }) => row.kind === "module" && this.app.state.selected !== null && this.rowOf(this.app.state.selected) === row,
      tone: ({ row, expanded }) => (marksOf(row, this.model, expanded).some((mark) => mark.failed) ? "alert" : expanded ? "strong" : ""),
      toggle: ({ row }) => this.toggle(row), choose: ({ row }) => this.app.select(row.members[0]!.path), sort: (column) => this.sort(column),
    });
    const { element, body } = block("table", t("title"), t("reading"), explained(t("why"), t("whyLabel")));
    body.append(this.toolbar(), this.grid.element);
    this.element = element;
    this.columnsChanged();
    app.on((changed) => changed.has("selected") && this.selected());
    globalThis.addEventListener("keydown", (event: KeyboardEvent) => this.slash(event), { signal: app.signal });
    if (app.state.selected !== null) setTimeout(() => this.selected());
  }

  private toolbar(): HTMLElement {
    const copy = (what: string, write: (copied: Copied) => string) => h("button", { type: "button", onclick: () => void this.copy(what, write(this.copied())) }, what);
    const boxes = offered(this.model).map((column) =>
      h("label", {}, h("input", { type: "checkbox", value: column.name, checked: this.own.chosen.has(column.name), onchange: (event: Event) => this.choose(column, (event.target as HTMLInputElement).checked) }), titleOf(column)));
    const foldable = this.model.folds.length > 0;
    const fold = h("label", {}, h("input", { type: "checkbox", checked: this.own.fold, onchange: (event: Event) => this.refold((event.target as HTMLInputElement).checked) }), ` ${t("fold")}`);
    return h(
      "div", { class: "tools" },
      this.search, this.types, menu(this.app, t("columns"), ...boxes), menu(this.app, t("copy"), copy("CSV", csv), copy("Markdown", markdown), copy("LaTeX", latex)),
      h("button", { type: "button", onclick: () => this.openAll(true) }, t("openAll")), h("button", { type: "button", onclick: () => this.openAll(false) }, t("closeAll")),
      foldable && fold, this.said,
    );
  }

  private get columns(): Column[] {
    return offered(this.model).filter((column) => this.own.chosen.has(column.name));
  }

  private get isFlat(): boolean {
    return this.own.sorted !== null && this.own.sorted.column !== "name";
  }

  private made(): Rows {
    return new Rows(this.model, { fold: this.own.fold, fields: this.columns.flatMap((column) => column.field ?? []) });
  }

  private typeNames(): string[] {
    return [...new Set(this.model.parts.map((part) => part.module.type))].sort();
  }

  private name({ row, name, expanded }: Shown) {
    const marks = row === this.rows.root ? [] : marksOf(row, this.model, expanded);
    const text = row === this.rows.root && row.children.length ? t("total") : name;
    return {
      title: `${row.label}${row.type ? ` · ${row.type}` : ""}${marks.length ? ` · ${marks.map((mark) => mark.text).join(", ")}` : ""}`,
      // A name may hold letters that run right to left; it must not turn its neighbours round.
      children: [h("bdi", {}, text.length > 200 ? `${text.slice(0, 200)}…` : text), row.fold > 1 && h("span", { class: "times" }, `× ${row.fold}`), ...marks.map((mark) => h("span", { class: "remark" }, mark.text))],
    };
  }

  private rowOf(path: string): Row | undefined {
    const part = this.model.byPath.get(path);
    return part && this.rows.ofModule.get(part.index);
  }

  private columnsChanged(): void {
    this.grid.setColumns(
      this.columns.map((column) => ({
        id: column.name, title: titleOf(column), width: column.width, number: column.number, mono: ["input", "output", "dtype"].includes(column.name),
        cell: (shown: Shown) => cellOf(column, shown.row, this.rows, this.model, shown.expanded && shown.row !== this.rows.root),
      })),
      this.own.sorted,
    );
    this.list();
  }

  /** Decide which rows are shown, in which order. */
  private list(): void {
    const asked = this.search.value.trim().toLowerCase();
    const type = this.types.value;
    const matches = (row: Row) =>
      (!asked || row.label.toLowerCase().includes(asked) || row.type.toLowerCase().includes(asked) || row.members.some((part) => part.path.toLowerCase() === asked)) && (!type || row.type === type);
    const filtered = Boolean(asked || type);
    if (this.isFlat) this.shown = this.ordered(flat(this.rows).filter(matches));
    else this.shown = this.tree(filtered ? matches : null);
    const { root } = this.rows;
    this.grid.setRows(this.shown, root.children.length ? { row: root, level: 0, expanded: false, name: t("total") } : null);
    this.say(t("shown", { n: integer(this.shown.length), all: integer(this.size(root)) }));
  }

  private size(row: Row): number {
    return row.children.reduce((sum, child) => sum + 1 + this.size(child), row.parent === null && !row.children.length ? 1 : 0);
  }

  /** The open rows; with a filter the matches and what encloses them. */
  private tree(matches: ((row: Row) => boolean) | null): Shown[] {
    const { root } = this.rows;
    const found: Shown[] = [];
    const walk = (row: Row): boolean => {
      const place = found.length;
      const shown = { row, level: row.level - 1, expanded: false, name: row.name };
      found.push(shown);
      const opens = matches !== null || this.own.open.has(row.key);
      let any = false;
      if (opens) for (const child of row.children) any = walk(child) || any;
      shown.expanded = row.children.length > 0 && opens && (matches === null || any);
      if (matches === null || any || matches(row)) return true;
      found.length = place;
      return false;
    };
    if (!root.children.length) walk(root);
    else for (const child of root.children) walk(child);
    if (this.own.sorted?.direction === "descending") this.turned(found);
    return root.children.length ? found : found.map((shown) => ({ ...shown, level: 0 }));
  }

  /** By name, last first: the model's order backwards, every parent before its children. */
  private turned(shown: Shown[]): void {
    const below = new Map<Row | null, Shown[]>();
    for (const one of shown) below.set(one.row.parent, [...(below.get(one.row.parent) ?? []), one]);
    shown.length = 0;
    const walk = (row: Row | null) => {
      for (const one of [...(below.get(row) ?? [])].reverse()) {
        shown.push(one);
        walk(one.row);
      }
    };
    walk(this.rows.root.children.length ? this.rows.root : null);
  }

  private ordered(rows: Row[]): Shown[] {
    const column = offered(this.model).find((one) => one.name === this.own.sorted!.column)!;
    const sign = this.own.sorted!.direction === "descending" ? -1 : 1;
    const keyed = rows.map((row) => ({ row, key: rawValue(column, row, this.rows, this.model) }));
    const numeric = column.number;
    keyed.sort((a, b) => sign * (numeric ? Number(a.key ?? 0) - Number(b.key ?? 0) : String(a.key ?? "").localeCompare(String(b.key ?? ""))));
    return keyed.map(({ row }) => ({ row, level: 0, expanded: false, name: row.label }));
  }

  private sort(column: string): void {
    const isText = column === "name" || !offered(this.model).find((one) => one.name === column)?.number;
    const [first, second]: Direction[] = column === "name" ? ["descending", "descending"] : isText ? ["ascending", "descending"] : ["descending", "ascending"];
    if (this.own.sorted?.column !== column) this.own.sorted = { column, direction: first! };
    else this.own.sorted = this.own.sorted.direction === first && second !== first ? { column, direction: second! } : null;
    this.columnsChanged();
  }

  private choose(column: Column, on: boolean): void {
    if (on) this.own.chosen.add(column.name);
    else this.own.chosen.delete(column.name);
    if (this.own.sorted && !this.own.chosen.has(this.own.sorted.column as ColumnName)) this.own.sorted = null;
    this.rows = this.made();
    this.columnsChanged();
  }

  private refold(on: boolean): void {
    this.own.fold = on;
    this.rows = this.made();
    this.columnsChanged();
    if (this.app.state.selected !== null) this.selected();
  }

  private toggle(row: Row): void {
    if (this.own.open.has(row.key)) this.own.open.delete(row.key);
    else this.own.open.add(row.key);
    this.list();
  }

  private openAll(on: boolean): void {
    this.own.open.clear();
    const walk = (row: Row) => {
      if (row.children.length) this.own.open.add(row.key);
      row.children.forEach(walk);
    };
    if (on) walk(this.rows.root);
    this.list();
  }

  /** Open the upper levels as long as they fit. */
  private openFirst(): void {
    let level = this.rows.root.children;
    let count = level.length;
    for (;;) {
      const below = level.flatMap((row) => row.children);
      if (!below.length || count + below.length > FIRST_ROWS) return;
      for (const row of level) if (row.children.length) this.own.open.add(row.key);
      count += below.length;
      level = below;
    }
  }

  private selected(): void {
    const { selected } = this.app.state;
    const row = selected === null ? undefined : this.rowOf(selected);
    if (!row) return this.grid.refresh();
    let added = false;
    for (let above = row.parent; above; above = above.parent) {
      if (!this.own.open.has(above.key)) {
        this.own.open.add(above.key);
        added = true;
      }
    }
    if (added) this.list();
    this.grid.reveal(this.grid.indexOf((shown) => shown.row === row));
  }

  private slash(event: KeyboardEvent): void {
    const target = event.target as HTMLElement;
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName ?? "")) return;
    event.preventDefault();
    this.search.focus();
    this.search.scrollIntoView({ block: "center" });
  }

  private copied(): Copied {
    return { model: this.model, rows: this.rows, columns: this.columns, shown: this.shown, nameTitle: t("layer") };
  }

  private async copy(what: string, text: string): Promise<void> {
    const done = await copyText(text);
    this.say(done ? t("copied", { n: integer(this.shown.length), what }) : t("notCopied"));
  }

  private say(text: string): void {
    replace(this.said, text);
  }
}

function menu(app: App, title: string, ...items: HTMLElement[]): HTMLElement {
  const element: HTMLDetailsElement = h("details", { class: "menu" }, h("summary", {}, title), h("div", {}, ...items));
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !element.open) return;
    event.stopPropagation();
    element.open = false;
    element.querySelector("summary")!.focus();
  });
  globalThis.addEventListener("pointerdown", (event) => {
    if (!element.contains(event.target as Node)) element.open = false;
  }, { signal: app.signal });
  return element;
}

export const table: View = {
  shows: () => true,
  make: (app) => new TableView(app).element,
};
