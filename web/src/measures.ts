// The measures by which a module is heavy: the same in every view that ranks or sizes modules.

import type { Measure } from "./app";
import { bytes, count, milliseconds } from "./format";
import { texts } from "./language";
import type { CostName, Model } from "./model";

const t = texts(
  {
    params: "Parameters", macs: "MACs", saved: "Activations", outputs: "Activations", time: "Time",
    paramsWhy: "Each parameter once, where it is first met.",
    macsWhy: "Multiply-adds of the forward: 1 MAC = 2 FLOPs.",
    savedWhy: "Bytes that a module keeps for the backward.",
    outputsWhy: "Bytes of all layer outputs. Only some are alive at once.",
    timeWhy: "Forward and backward of a module. The loss and the optimizer belong to no module.",
  },
  {
    params: "参数量", macs: "乘加次数", saved: "激活值", outputs: "激活值", time: "时间",
    paramsWhy: "每个参数只计一次，计在最先出现的地方。",
    macsWhy: "前向的乘加次数：1 MAC = 2 FLOPs。",
    savedWhy: "模块为反向保存的字节数。",
    outputsWhy: "所有层输出的字节数之和，同一时刻只有一部分存活。",
    timeWhy: "模块的前向和反向时间。损失和优化器不属于任何模块。",
  },
);

export interface Measured {
  key: Measure;
  cost: CostName;
  label: string;
  why: string;
  format: (value: number) => string;
}

/** Those that the answer holds: a model that did not run has parameters alone. */
export function measuresOf(model: Model): Measured[] {
  const found: Measured[] = [{ key: "params", cost: "params", label: t("params"), why: t("paramsWhy"), format: count }];
  if (!model.hasRun) return found;
  found.push({ key: "macs", cost: "macs", label: t("macs"), why: t("macsWhy"), format: (value) => count(value, "MACs") });
  const training = model.report.scenario.mode === "training";
  found.push({
    key: "activation", cost: training ? "saved_activation_bytes" : "activation_bytes",
    label: t(training ? "saved" : "outputs"), why: t(training ? "savedWhy" : "outputsWhy"), format: bytes,
  });
  if (model.report.time) found.push({ key: "time", cost: "time_ms", label: t("time"), why: t("timeWhy"), format: milliseconds });
  return found;
}

/** The chosen measure, or parameters where the answer does not hold it. */
export function measured(model: Model, key: Measure): Measured {
  const all = measuresOf(model);
  return all.find((one) => one.key === key) ?? all[0]!;
}
