// The columns of the table: those of the terminal (src/torchgauge/render/tree/columns.py), in its order.

import { bytes, count, integer, milliseconds, shape, share } from "../../format";
import type { Cell } from "../../grid";
import { texts } from "../../language";
import type { CostName, Model } from "../../model";
import { dtypeText, valuesText } from "../../shapes";
import type { Row, Rows } from "./rows";

const t = texts(
  {
    type: "Type", input: "Input shape", output: "Output shape", dtype: "Dtype", calls: "Calls", params: "Params", percent: "Params %", trainable: "Trainable",
    param_bytes: "Param size", macs: "MACs", flops: "FLOPs", backward_flops: "Bwd FLOPs", elementwise: "Element-wise", activation: "Activation", saved: "Saved",
    gradients: "Gradients", peak: "Peak", time: "Time", backward_time: "Bwd time", time_percent: "Time %",
  },
  {
    type: "类型", input: "输入形状", output: "输出形状", dtype: "数据类型", calls: "调用次数", params: "参数量", percent: "参数占比", trainable: "可训练",
    param_bytes: "参数大小", macs: "乘加次数", flops: "FLOPs", backward_flops: "反向 FLOPs", elementwise: "逐元素运算", activation: "激活值", saved: "保存的激活值",
    gradients: "梯度", peak: "峰值", time: "时间", backward_time: "反向时间", time_percent: "时间占比",
  },
);

export type ColumnName = Parameters<typeof t>[0];

export interface Column {
  name: ColumnName;
  field: CostName | null;
  /** What it is called where raw numbers are written. */
  raw: string;
  scale: number;
  write: (value: number) => string;
  number: boolean;
  width: number;
}

const text = (name: ColumnName, width: number, number = false): Column => ({ name, field: null, raw: name, scale: 1, write: integer, number, width });
const figure = (name: ColumnName, field: CostName, width: number, write: (value: number) => string = count): Column => ({ name, field, raw: field, scale: 1, write, number: true, width });

export const COLUMNS: readonly Column[] = [
  text("type", 150), text("input", 180), text("output", 180), text("dtype", 90), text("calls", 80, true),
  figure("params", "params", 125, integer), text("percent", 90, true), figure("trainable", "trainable_params", 125, integer), figure("param_bytes", "param_bytes", 105, bytes),
  { ...figure("macs", "macs", 105), raw: "forward_macs" },
  { ...figure("flops", "macs", 105), raw: "forward_flops", scale: 2 },
  figure("backward_flops", "backward_flops", 110), figure("elementwise", "elementwise_flops", 110),
  figure("activation", "activation_bytes", 110, bytes), figure("saved", "saved_activation_bytes", 115, bytes), figure("gradients", "gradient_bytes", 105, bytes),
  figure("peak", "peak_allocated_bytes", 105, bytes), figure("time", "time_ms", 100, milliseconds), figure("backward_time", "backward_time_ms", 100, milliseconds),
  text("time_percent", 90, true),
];

export const titleOf = (column: Column): string => t(column.name);

/** The columns that are shown at first: those that fit what the report holds. */
export function defaults(model: Model): ColumnName[] {
  const { report } = model;
  if (!model.hasRun) return ["type", "params", "percent"];
  if (report.time?.measured) return ["type", "output", "macs", "time", "time_percent"];
  const kept = report.scenario.mode === "training" ? "saved" : "activation";
  return ["type", "output", "params", "macs", kept, ...(report.time ? (["time", "time_percent"] as const) : [])];
}

/** Columns that have nothing to show are not offered. */
export function offered(model: Model): Column[] {
  const timed: ReadonlySet<string> = new Set(["time", "backward_time", "time_percent"]);
  const structural: ReadonlySet<string> = new Set(["type", "params", "percent", "trainable", "param_bytes"]);
  return COLUMNS.filter((column) => (model.hasRun ? model.report.time || !timed.has(column.name) : structural.has(column.name)));
}

/** What a column holds for a row before it is written; null for nothing. */
export function rawValue(column: Column, row: Row, rows: Rows, model: Model): number | string | null {
  if (column.field) {
    const value = rows.cost(row, column.field) * column.scale;
    return column.write === milliseconds ? rounded(value, 6) : value;
  }
  const { totals, time } = model.report;
  if (column.name === "calls") return row.kind === "module" ? callsOf(row).length * row.members.length : null;
  if (column.name === "percent") return totals.params ? rounded((100 * rows.cost(row, "params")) / totals.params, 4) : null;
  if (column.name === "time_percent") return time ? rounded((100 * rows.cost(row, "time_ms")) / time.total_ms, 4) : null;
  return textOf(column.name, row, model).full.replace("–", "") || null;
}

export function cellOf(column: Column, row: Row, rows: Rows, model: Model, expanded: boolean): Cell {
  const { totals, time } = model.report;
  if (column.field) return figureCell(column, row, rows, expanded);
  if (column.name === "percent") return shareCell(rows.cost(row, "params"), totals.params);
  if (column.name === "time_percent") return shareCell(rows.cost(row, "time_ms"), time?.total_ms ?? 0);
  if (column.name === "calls") {
    const value = rawValue(column, row, rows, model);
    return value ? { text: integer(Number(value)) } : { text: "–", quiet: true };
  }
  const { short, full } = textOf(column.name, row, model);
  return { text: short, title: full, quiet: short === "–" };
}

/** The cell of a share, two decimals each, so that the points align. */
function shareCell(part: number, all: number): Cell {
  if (!part || !all) return { text: "–", quiet: true };
  const written = share(part, all);
  if (written.startsWith("<")) return { text: written };
  const [whole, decimals = ""] = written.replace(" %", "").split(".");
  return { text: `${whole}.${decimals.padEnd(2, "0")} %`, title: `${(100 * part) / all} %` };
}

function figureCell(column: Column, row: Row, rows: Rows, expanded: boolean): Cell {
  const field = column.field!;
  const value = rows.cost(row, field) * column.scale;
  // FLOPs are twice the MACs, and a parameter is no module: neither is a number of the data.
  const named = column.scale === 1 && row.kind !== "parameter" ? { value, field: `${row.kind === "work" ? "own" : "modules"}.${row.members.map((part) => part.index).join(",")}.${field}` } : {};
  if (value) {
    // A container allocates nothing itself: its figure is the sum of the rows below it.
    if (expanded && column.name === "activation") return { text: "" };
    const all = rows.cost(rows.root, field) * column.scale;
    const bar = !expanded && row !== rows.root && all > 0 && value / all >= 0.02 ? { bar: value / all } : {};
    return { text: column.write(value), title: exact(column, value), ...named, ...bar };
  }
  const elsewhere = rows.elsewhere(row, field);
  return elsewhere ? { text: `(${column.write(elsewhere)})`, title: exact(column, elsewhere), quiet: true } : { text: "–", quiet: true };
}

function exact(column: Column, value: number): string {
  if (column.write === milliseconds) return `${value} ms`;
  return column.write === bytes ? `${integer(value)} B` : integer(value);
}

function textOf(name: ColumnName, row: Row, model: Model): { short: string; full: string } {
  const same = (written: string) => ({ short: written, full: written });
  if (name === "type") return same(row.type);
  if (row.parameter) return same(name === "output" ? shape(row.parameter.shape) : name === "dtype" ? row.parameter.dtype : "–");
  const part = row.members[0]!;
  const call = row.kind === "module" ? callsOf(row)[0] : undefined;
  // Nobody expects a shape of functional work, or of a container without a forward.
  if (!call) return same(row.kind === "work" || !part.module.has_forward ? "" : "–");
  const values = name === "input" ? call.inputs : call.completed ? call.outputs : [];
  return name === "dtype" ? same(dtypeText(values)) : valuesText(values, model.report.batch_size);
}

const callsOf = (row: Row) => row.members[0]!.module.calls.filter((call) => !call.recompute);
const rounded = (value: number, digits: number): number => Number(value.toFixed(digits));
