// Every operator of the step: what it took and moved, how long, and what bounds it.

import "./operators.css";
import type { App } from "../../app";
import { h, replace } from "../../dom";
import { integer, milliseconds } from "../../format";
import { Grid, type Direction } from "../../grid";
import { texts } from "../../language";
import type { Step } from "../../types";
import { block, explained } from "../../view";
import { operatorName, phaseName } from "../../words";
import type { View } from "../index";
import { columnsOf, type OperatorColumn } from "./columns";
import { grouped, passing, single, work, type Operator } from "./groups";
import { Roofline } from "./roofline";

const t = texts(
  {
    title: "Operators", reading: "The operators that the step runs. The list follows the range dragged in the timeline and the module selected in another view.",
    why: "FLOPs are matmul-like operations (1 MAC = 2 FLOPs). Element-wise ones have their own column. Bytes are those of the input and output tensors of an operator, each once. The picture adds both kinds of FLOPs. Views move no data and are left out.",
    whyLabel: "What the figures are", operator: "Operator", search: "Search operators and modules", allPhases: "All phases", phase: "Phase", grouped: "Group by operator and module",
    shown: "{n} operators in {rows} rows", timed: "{n} operators in {rows} rows · {time}", range: "operators {from}–{to}", module: "in {path}", lift: "Show all again: {what}",
    none: "No operator matches. Clear the search, the range or the module.", loaded: "A saved or measured report holds no operators. Analyze the model again to see them.", noRun: "The model did not run, so there are no operators. Give an input size to see them.", root: "the model",
  },
  {
    title: "算子", reading: "这一步实际执行的内容。列表随时间线上框选的范围和在别处选择的模块而变化。",
    why: "FLOPs 是矩阵乘类运算（1 次乘加 = 2 FLOPs），逐元素运算单列。字节数是算子读入和产生的张量之和，每个只算一次。图中两种运算都计入。视图操作不搬运数据，不列出。",
    whyLabel: "各数字的含义", operator: "算子", search: "搜索算子和模块", allPhases: "全部阶段", phase: "阶段", grouped: "按算子和模块合并",
    shown: "{n} 个算子，{rows} 行", timed: "{n} 个算子，{rows} 行 · {time}", range: "算子 {from}–{to}", module: "位于 {path}", lift: "恢复显示全部：{what}",
    none: "没有匹配的算子。请清空搜索、范围或模块。", loaded: "保存的或实测的报告不含算子。重新分析模型即可看到。", noRun: "模型没有运行，因此没有算子。给出输入尺寸即可看到。", root: "整个模型",
  },
);

/** A row of the list: a group, or one operator, below its group or alone. */
interface Row {
  operator: Operator;
  level: number;
}

class OperatorsView {
  readonly element: HTMLElement;
  private readonly step: Step;
  private readonly columns: OperatorColumn[];
  private readonly grid: Grid<Row>;
  private readonly roofline: Roofline;
  private readonly said = h("span", { class: "said", role: "status" });
  private readonly chips = h("span", { class: "filters" });
  private readonly search: HTMLInputElement;
  private readonly phases: HTMLSelectElement;
  private operators: Operator[] = [];
  private open = new Set<string>();
  private together = true;
  private module: string | null;
  /** The selection that came from here filters nothing: the list would change under the pointer. */
  private own = false;
  private sorted: { column: string; direction: Direction } | null;

  constructor(private readonly app: App) {
    this.step = app.model.step!;
    this.columns = columnsOf(app.model);
    this.module = app.state.selected;
    const timed = this.step.operators.time_ms.length > 0;
    this.sorted = { column: timed ? "time" : "flops", direction: "descending" };
    this.search = h("input", { type: "search", placeholder: t("search"), "aria-label": t("search"), oninput: () => this.list() });
    const names = [...new Set(this.step.operators.phase)].map((index) => this.step.texts[index]!);
    this.phases = h("select", { "aria-label": t("phase"), onchange: () => this.list() }, h("option", { value: "" }, t("allPhases")), ...names.map((name) => h("option", { value: name }, phaseName(name))));
    const together = h("label", {}, h("input", { type: "checkbox", checked: true, onchange: (event: Event) => this.group((event.target as HTMLInputElement).checked) }), ` ${t("grouped")}`);
    this.grid = new Grid<Row>({
      label: t("title"), nameTitle: t("operator"), nameWidth: 210, empty: t("none"), signal: app.signal, printed: 40,
      key: ({ operator, level }) => `${level} ${operator.key}`, level: ({ level }) => level + 1,
      name: ({ operator }) => ({ children: [h("bdi", {}, operatorName(operator.name))], title: operator.name }),
      expanded: ({ operator }) => (operator.places.length > 1 ? this.open.has(operator.key) : null),
      selected: ({ operator }) => this.app.state.selected !== null && operator.module === this.app.state.selected,
      toggle: ({ operator }) => this.toggle(operator), choose: ({ operator }) => this.choose(operator), sort: (column) => this.sort(column),
    });
    this.roofline = new Roofline(app, timed);
    const { element, body } = block("operators", t("title"), t("reading"), explained(t("why"), t("whyLabel")));
    body.append(this.roofline.element, h("div", { class: "tools" }, this.search, this.phases, together, this.chips, this.said), this.grid.element);
    this.element = element;
    this.headed();
    this.list();
    app.on((changed) => {
      if (changed.has("selected")) this.selected();
      if (changed.has("range")) this.list();
    });
  }

  private headed(): void {
    this.grid.setColumns(this.columns.map((column) => ({ ...column, cell: (row: Row) => column.cell(row.operator) })), this.sorted);
  }

  private list(): void {
    const { range } = this.app.state;
    const places = passing(this.step, { range, module: this.module || null, text: this.search.value.trim().toLowerCase(), phase: this.phases.value });
    const groups = grouped(this.step, places);
    this.operators = this.together ? groups : places.map((place) => single(this.step, place));
    this.order();
    this.rows();
    this.roofline.show(groups);
    this.filters();
    const time = groups.reduce((sum, group) => sum + group.time, 0);
    const values = { n: integer(places.length), rows: integer(this.operators.length), time: milliseconds(time) };
    replace(this.said, t(time ? "timed" : "shown", values));
  }

  /** Sorted as asked; otherwise in the order in which they ran. */
  private order(): void {
    const column = this.columns.find((one) => one.id === this.sorted?.column);
    const key = (operator: Operator): number | string => (this.sorted!.column === "name" ? operatorName(operator.name) : column!.key(operator));
    if (!this.sorted) return void this.operators.sort((a, b) => a.places[0]! - b.places[0]!);
    const sign = this.sorted.direction === "descending" ? -1 : 1;
    this.operators = this.operators
      .map((operator) => ({ operator, at: key(operator) }))
      .sort((a, b) => sign * (typeof a.at === "number" ? a.at - (b.at as number) : a.at.localeCompare(b.at as string)) || work(b.operator) - work(a.operator))
      .map(({ operator }) => operator);
  }

  private rows(): void {
    const rows = this.operators.flatMap((operator): Row[] => [
      { operator, level: 0 },
      ...(operator.places.length > 1 && this.open.has(operator.key) ? operator.places.map((place) => ({ operator: single(this.step, place), level: 1 })) : []),
    ]);
    this.grid.setRows(rows);
  }

  private filters(): void {
    const { range } = this.app.state;
    const chip = (what: string, lift: () => void) => h("button", { type: "button", class: "filter", "aria-label": t("lift", { what }), title: t("lift", { what }), onclick: lift }, what, " ×");
    replace(
      this.chips,
      range && chip(t("range", { from: range[0], to: range[1] }), () => this.app.set({ range: null })),
      this.module !== null && chip(t("module", { path: this.module.slice(0, 80) || t("root") }), () => this.filter(null)),
    );
  }

  private filter(module: string | null): void {
    this.module = module;
    this.list();
  }

  private selected(): void {
    const { selected } = this.app.state;
    if (!this.own) this.filter(selected);
    else this.grid.refresh();
    this.roofline.update();
    if (selected !== null && !this.own) this.grid.reveal(this.grid.indexOf(({ operator }) => operator.module === selected));
  }

  private choose(operator: Operator): void {
    if (!this.app.model.byPath.has(operator.module)) return;
    this.own = true;
    this.app.select(operator.module);
    this.own = false;
  }

  private toggle(operator: Operator): void {
    if (this.open.has(operator.key)) this.open.delete(operator.key);
    else this.open.add(operator.key);
    this.rows();
  }

  private group(on: boolean): void {
    this.together = on;
    this.list();
  }

  private sort(column: string): void {
    const number = this.columns.find((one) => one.id === column)?.number;
    const [first, second]: [Direction, Direction] = number ? ["descending", "ascending"] : ["ascending", "descending"];
    if (this.sorted?.column !== column) this.sorted = { column, direction: first };
    else this.sorted = this.sorted.direction === first ? { column, direction: second } : null;
    this.headed();
    this.order();
    this.rows();
  }
}

export const operators: View = {
  shows: () => true,
  make(app: App): HTMLElement {
    const { step } = app.model;
    if (step && step.operators.op.length) return new OperatorsView(app).element;
    const { element, body } = block("operators", t("title"), t("reading"));
    body.append(h("p", { class: "empty-state" }, t(app.model.hasRun ? "loaded" : "noRun")));
    return element;
  },
};
