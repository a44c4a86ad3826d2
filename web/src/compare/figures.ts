// The figures of a whole model, of two reports: what each was, what it is.

import { bytes, count, integer, milliseconds, rate, shape } from "../format";
import { texts } from "../language";
import { modeName } from "../words";
import type { NamedValue, Report } from "../types";

const t = texts(
  {
    params: "Parameters", paramBytes: "Parameter bytes", forward: "Forward", flops: "Whole step", device: "Memory on the device",
    peak: "Peak allocated", saved: "Saved activations", optimizer: "Optimizer states", time: "Time of a step", rate: "Samples per second",
    on: "on", off: "off",
  },
  {
    params: "参数量", paramBytes: "参数字节数", forward: "前向", flops: "整个一步", device: "设备显存占用",
    peak: "峰值分配", saved: "保存的激活值", optimizer: "优化器状态", time: "单步时间", rate: "每秒样本数",
    on: "开启", off: "关闭",
  },
);

/** Settings by the names of the scenario; the others are shown as they are. */
const settingNames = texts(
  {
    model: "model", mode: "mode", device: "device", precision: "precision", optimizer: "optimizer", loss: "loss", batch_size: "batch size",
    checkpointing: "activation checkpointing", accumulation: "gradient accumulation", offload_activations: "activations in host memory",
  },
  {
    model: "模型", mode: "模式", device: "设备", precision: "精度", optimizer: "优化器", loss: "损失", batch_size: "批大小",
    checkpointing: "梯度检查点", accumulation: "梯度累积", offload_activations: "激活值存放在内存",
  },
);

type Known = Parameters<typeof settingNames>[0];
const KNOWN: readonly Known[] = [
  "model", "mode", "device", "precision", "optimizer", "loss", "batch_size", "checkpointing", "accumulation", "offload_activations",
];

const settingName = (key: string): string => (KNOWN.includes(key as Known) ? settingNames(key as Known) : key.replaceAll("_", " "));

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
  const add = (key: string, old: unknown, now: unknown, name = settingName(key)) => {
    const [one, other] = key === "mode" ? [modeName(String(old)), modeName(String(now))] : [text(old), text(now)];
    if (one !== other) found.push({ name, before: one, after: other });
  };
  add("model", before.model.spec ?? before.model.name, after.model.spec ?? after.model.name);
  for (const key of new Set([...Object.keys(before.scenario), ...Object.keys(after.scenario)])) {
    add(key, before.scenario[key], after.scenario[key]);
  }
  if (before.batch_size !== null && after.batch_size !== null) add("batch_size", before.batch_size, after.batch_size);
  const inputs = new Set([...before.inputs, ...after.inputs].map(({ name }) => name));
  for (const name of inputs) {
    const [old, now] = [before, after].map(({ inputs: all }) => all.find((one) => one.name === name));
    if (sample(old, before.batch_size) === sample(now, after.batch_size)) continue; // another batch is said above
    add("inputs", old?.shape && `${shape(old.shape)} ${old.dtype}`, now?.shape && `${shape(now.shape)} ${now.dtype}`, name);
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
  if (typeof value === "boolean") return t(value ? "on" : "off");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
