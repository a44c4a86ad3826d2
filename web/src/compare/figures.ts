// The figures of a whole model, of two reports: what each was, what it is.

import { bytes, count, integer, milliseconds, rate, shape } from "../format";
import { texts } from "../language";
import type { NamedValue, Report } from "../types";

const t = texts(
  {
    params: "Parameters", paramBytes: "Parameter bytes", forward: "Forward", flops: "Whole step", device: "Memory on the device",
    peak: "Peak allocated", saved: "Saved activations", optimizer: "Optimizer states", time: "Time of a step", rate: "Samples per second",
  },
  {
    params: "参数量", paramBytes: "参数字节数", forward: "前向", flops: "整个一步", device: "设备显存占用",
    peak: "峰值分配", saved: "保存的激活值", optimizer: "优化器状态", time: "单步时间", rate: "每秒样本数",
  },
);

export interface Figure {
  /** As in the report's JSON. */
  field: string;
  name: string;
  before: number | null;
  after: number | null;
  text(value: number): string;
  /** Whether less of it is better, more, or neither. */
  better: "less" | "more" | null;
}

type Row = [field: string, name: Parameters<typeof t>[0], text: (value: number) => string, better: Figure["better"], of: (report: Report) => number | null | undefined];

const ROWS: Row[] = [
  ["memory.device_bytes", "device", bytes, "less", ({ memory }) => memory?.device_bytes],
  ["memory.peak_allocated_bytes", "peak", bytes, "less", ({ memory }) => memory?.peak_allocated_bytes],
  ["memory.saved_activation_bytes", "saved", bytes, "less", ({ memory }) => memory?.saved_activation_bytes],
  ["memory.optimizer_bytes", "optimizer", bytes, "less", ({ memory }) => memory?.optimizer_bytes],
  ["time.total_ms", "time", milliseconds, "less", ({ time }) => time?.total_ms],
  ["time.predicted.samples_per_second", "rate", rate, "more", ({ time }) => time?.predicted?.samples_per_second],
  ["totals.forward_macs", "forward", (value) => count(value, "MACs"), "less", ({ memory, totals }) => memory && totals.forward_macs],
  ["totals.total_flops", "flops", (value) => count(value, "FLOPs"), "less", ({ memory, totals }) => memory && totals.total_flops],
  ["totals.params", "params", integer, null, ({ totals }) => totals.params],
  ["totals.param_bytes", "paramBytes", bytes, "less", ({ totals }) => totals.param_bytes],
];

/** Those that at least one of the two reports holds, and that are not zero in both. */
export function figures(before: Report, after: Report): Figure[] {
  return ROWS.map(([field, name, text, better, of]) => ({
    field, name: t(name), text, better, before: of(before) ?? null, after: of(after) ?? null,
  })).filter((figure) => figure.before || figure.after);
}

export interface Setting {
  name: string;
  before: string;
  after: string;
}

/** What was asked differently: the scenario, the inputs, the model. */
export function settings(before: Report, after: Report): Setting[] {
  const found: Setting[] = [];
  const add = (name: string, old: unknown, now: unknown) => {
    const [one, other] = [text(old), text(now)];
    if (one !== other) found.push({ name, before: one, after: other });
  };
  add("model", before.model.spec ?? before.model.name, after.model.spec ?? after.model.name);
  for (const key of new Set([...Object.keys(before.scenario), ...Object.keys(after.scenario)])) {
    add(key.replaceAll("_", "-"), before.scenario[key], after.scenario[key]);
  }
  if (before.batch_size !== null && after.batch_size !== null) add("batch-size", before.batch_size, after.batch_size);
  const inputs = new Set([...before.inputs, ...after.inputs].map(({ name }) => name));
  for (const name of inputs) {
    const [old, now] = [before, after].map(({ inputs: all }) => all.find((one) => one.name === name));
    if (sample(old, before.batch_size) === sample(now, after.batch_size)) continue; // another batch is said above
    add(name, old?.shape && `${shape(old.shape)} ${old.dtype}`, now?.shape && `${shape(now.shape)} ${now.dtype}`);
  }
  return found;
}

/** An input for one sample. */
function sample(input: NamedValue | undefined, batch: number | null): string {
  const factors = new Map(input?.batch_dims ?? []);
  const sizes = input?.shape?.map((size, dim) => (batch && factors.has(dim) ? size / batch : size));
  return `${sizes} ${input?.dtype}`;
}

function text(value: unknown): string {
  if (value === null || value === undefined || value === "") return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
