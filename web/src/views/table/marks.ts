// What a row says besides its name, as src/torchgauge/render/tree/marks.py finds it.

import { texts } from "../../language";
import type { Model, Part } from "../../model";
import type { Parameter } from "../../types";
import type { Row } from "./rows";

const t = texts(
  {
    failedHere: "failed here", failedInside: "failed inside", sharedWith: "shared with {what}", someShared: "{names} shared with {what}", theModel: "the model",
    unreached: "not reached", uncalled: "not called", called: "called × {n}", differ: "called × {n}, {kinds} differ", recomputed: "recomputed",
    frozen: "frozen", partlyFrozen: "partly frozen", lazy: "lazy", noShape: "lazy, no shape yet",
  },
  {
    failedHere: "在此失败", failedInside: "内部失败", sharedWith: "与 {what} 共享", someShared: "{names} 与 {what} 共享", theModel: "整个模型",
    unreached: "未执行到", uncalled: "未被调用", called: "调用 {n} 次", differ: "调用 {n} 次，其中 {kinds} 种不同", recomputed: "重计算",
    frozen: "已冻结", partlyFrozen: "部分冻结", lazy: "延迟初始化", noShape: "延迟初始化，形状未定",
  },
);

export interface Mark {
  text: string;
  failed?: boolean;
}

export function marksOf(row: Row, model: Model, expanded: boolean): Mark[] {
  const parentFrozen = row.parent !== null && frozenAbove(row.parent);
  if (row.kind === "parameter") return parameterMarks(row.parameter!, parentFrozen);
  if (row.kind !== "module") return [];
  const part = row.members[0]!;
  const found = [failure(row, model, expanded), shared(part, row), calls(part, model), frozen(part, expanded, parentFrozen), row.children.length ? null : lazy(part.module.own_parameters)];
  return found.filter((mark) => mark !== null);
}

function frozenAbove(row: Row): boolean {
  return isFrozen(row.members[0]!) || (row.parent !== null && frozenAbove(row.parent));
}

const isFrozen = (part: Part): boolean => part.module.params > 0 && part.module.trainable_params === 0;

function parameterMarks(item: Parameter, parentFrozen: boolean): Mark[] {
  const found: Mark[] = [];
  if (item.shared_with !== null) found.push({ text: t("sharedWith", { what: item.shared_with }) });
  if (!item.trainable && !parentFrozen) found.push({ text: t("frozen") });
  const late = lazy([item]);
  return late ? [...found, late] : found;
}

function failure(row: Row, model: Model, expanded: boolean): Mark | null {
  const { failure: failed } = model.report;
  if (!failed) return null;
  if (row.members.some((part) => part.path === failed.path)) return { text: t("failedHere"), failed: true };
  const inside = row.members.some((part) => failed.path.startsWith(`${part.path}.`));
  return inside && !expanded ? { text: t("failedInside"), failed: true } : null;
}

function shared(part: Part, row: Row): Mark | null {
  if (part.module.shared_with !== null) return { text: t("sharedWith", { what: part.module.shared_with || t("theModel") }) };
  if (row.children.length) return null;
  const items = part.module.own_parameters.filter((item) => item.shared_with !== null);
  if (!items.length) return null;
  const names = items.map((item) => item.name.slice(item.name.lastIndexOf(".") + 1)).join(", ");
  return { text: t("someShared", { names, what: [...new Set(items.map((item) => item.shared_with))].join(", ") }) };
}

function calls(part: Part, model: Model): Mark | null {
  const { module } = part;
  if (!module.calls.length) {
    if (module.shared_with !== null || !module.has_forward || !model.hasRun || part.children.some(wasCalled)) return null;
    return { text: t(model.report.failure ? "unreached" : "uncalled") };
  }
  const forward = module.calls.filter((call) => !call.recompute);
  if (forward.length > 1) {
    const kinds = new Set(forward.map((call) => JSON.stringify([call.inputs, call.outputs, call.forward_macs, call.backward_flops, call.elementwise_flops, call.output_bytes, call.saved_activation_bytes, call.completed]))).size;
    return { text: t(kinds > 1 ? "differ" : "called", { n: forward.length, kinds }) };
  }
  return forward.length < module.calls.length ? { text: t("recomputed") } : null;
}

const wasCalled = (part: Part): boolean => part.module.calls.length > 0 || part.children.some(wasCalled);

function frozen(part: Part, expanded: boolean, parentFrozen: boolean): Mark | null {
  if (isFrozen(part)) return parentFrozen ? null : { text: t("frozen") };
  return part.module.trainable_params > 0 && part.module.trainable_params < part.module.params && !expanded ? { text: t("partlyFrozen") } : null;
}

function lazy(items: readonly Parameter[]): Mark | null {
  const late = items.filter((item) => item.is_lazy);
  if (!late.length) return null;
  return { text: t(late.some((item) => item.numel === 0) ? "noShape" : "lazy") };
}
