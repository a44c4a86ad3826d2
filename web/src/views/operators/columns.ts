// The columns of the list of operators.

import { bytes, count, integer, milliseconds, rate, share } from "../../format";
import type { Cell, GridColumn } from "../../grid";
import { texts } from "../../language";
import type { Model } from "../../model";
import { boundName, kindName, phaseName } from "../../words";
import { intensity, type Operator } from "./groups";

const t = texts(
  {
    module: "Module", phase: "Phase", calls: "Calls", inputs: "Inputs", outputs: "Outputs", flops: "FLOPs", elementwise: "Element-wise", bytes: "Bytes", intensity: "FLOPs/byte",
    time: "Time", percent: "Time %", roof: "Best time", bound: "Bound by", kind: "Kernel", different: "several shapes", again: "{phase}, again", outside: "outside",
    bytesHint: "Bytes of its input and output tensors", roofHint: "At the datasheet's rate or bandwidth, whichever takes longer", timeHint: "Includes the time that the GPU waits for it",
  },
  {
    module: "模块", phase: "阶段", calls: "次数", inputs: "输入", outputs: "输出", flops: "FLOPs", elementwise: "逐元素运算", bytes: "字节数", intensity: "FLOPs/字节",
    time: "时间", percent: "时间占比", roof: "理想时间", bound: "受限于", kind: "内核", different: "多种形状", again: "{phase}，重计算", outside: "模块之外",
    bytesHint: "读入和产生的张量的字节数", roofHint: "按标称算力或带宽计算，取较慢者", timeHint: "包括 GPU 等待它的时间",
  },
);

export type Id = "module" | "phase" | "calls" | "inputs" | "outputs" | "flops" | "elementwise" | "bytes" | "intensity" | "time" | "percent" | "roof" | "bound" | "kind";

export interface OperatorColumn extends GridColumn<Operator> {
  id: Id;
  key(row: Operator): number | string;
}

export function columnsOf(model: Model): OperatorColumn[] {
  const step = model.step!;
  const timed = step.operators.time_ms.length > 0;
  const sum = (column: number[]) => column.reduce((whole, value) => whole + value, 0);
  const all = model.report.time?.total_ms ?? sum(step.operators.time_ms);
  const totals = { flops: sum(step.operators.flops), elementwise_flops: sum(step.operators.elementwise_flops), nbytes: sum(step.operators.nbytes), time_ms: all, roof_ms: 0 };
  const text = (id: Id, width: number, key: (row: Operator) => string, mono = false): OperatorColumn => ({ id, title: t(id), width, mono, key, cell: (row) => ({ text: key(row) || "–", title: key(row) }) });
  const number = (id: Id, width: number, column: keyof typeof totals, key: (row: Operator) => number, write: (value: number) => string, exact: (value: number) => string, hint?: string): OperatorColumn => ({
    id, title: t(id), width, number: true, key, ...(hint ? { hint } : {}),
    cell: (row) => figure(row, column, key(row), totals[column], write, exact),
  });
  const times: OperatorColumn[] = timed
    ? [
        number("time", 90, "time_ms", (row) => row.time, milliseconds, (value) => `${value} ms`, t("timeHint")),
        { id: "percent", title: t("percent"), width: 80, number: true, key: (row) => row.time, cell: (row) => ({ text: share(row.time, all), title: `${(100 * row.time) / all} %` }) },
        text("bound", 95, (row) => (row.bound ? boundName(row.bound) : "")),
      ]
    : [];
  const kernels: OperatorColumn[] = timed
    ? [number("roof", 95, "roof_ms", (row) => row.roof, milliseconds, (value) => `${value} ms`, t("roofHint")), text("kind", 160, (row) => (row.kind ? kindName(row.kind) : ""))]
    : [];
  return [
    text("module", 210, (row) => row.module || t("outside")),
    text("phase", 90, (row) => row.phases.map((phase) => (row.recompute ? t("again", { phase: phaseName(phase) }) : phaseName(phase))).join(", ")),
    { id: "calls", title: t("calls"), width: 65, number: true, key: (row) => row.places.length, cell: (row) => ({ text: integer(row.places.length) }) },
    ...times,
    number("flops", 95, "flops", (row) => row.flops, count, integer),
    number("bytes", 100, "nbytes", (row) => row.bytes, bytes, (value) => `${integer(value)} B`, t("bytesHint")),
    { id: "intensity", title: t("intensity"), width: 100, number: true, key: intensity, cell: (row) => (intensity(row) ? { text: rate(intensity(row)), title: String(intensity(row)) } : { text: "–", quiet: true }) },
    text("inputs", 210, (row) => (row.inputs === "…" ? t("different") : row.inputs), true),
    text("outputs", 170, (row) => (row.outputs === "…" ? t("different") : row.outputs), true),
    number("elementwise", 110, "elementwise_flops", (row) => row.elementwise, count, integer),
    ...kernels,
  ];
}

function figure(row: Operator, column: string, value: number, all: number, write: (value: number) => string, exact: (value: number) => string): Cell {
  if (!value) return { text: "–", quiet: true };
  const [place] = row.places;
  return {
    text: write(value), title: exact(value), ...(all && value / all >= 0.02 ? { bar: value / all } : {}),
    // Of a group the number is a sum over many places.
    ...(row.places.length === 1 ? { value, field: `step.operators.${column}.${place}` } : {}),
  };
}
