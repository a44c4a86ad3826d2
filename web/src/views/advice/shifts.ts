// What a change does to the figures: small bars before and after, the numbers, the share.

import { h } from "../../dom";
import { figure } from "../../figure";
import { bytes, count, integer, milliseconds } from "../../format";
import { texts } from "../../language";
import { signedShare } from "../../signed";
import type { Shift } from "../../types";

const t = texts(
  { params: "Parameters", macs: "MACs", device: "Memory on the device", peak: "Peak of tensors", time: "Time of a step", same: "The same: {names}", more: "more", less: "less", none: "No figure changes." },
  { params: "参数量", macs: "乘加次数", device: "设备显存占用", peak: "张量峰值", time: "单步时间", same: "不变：{names}", more: "增加", less: "减少", none: "没有数值变化。" },
);

interface Measured {
  label: Parameters<typeof t>[0];
  text(value: number): string;
}

/** Those that are shown; src/torchgauge/render/pages/gains.py. Of the others, JSON has them. */
const SHOWN: Record<string, Measured> = {
  "totals.params": { label: "params", text: integer },
  "totals.forward_macs": { label: "macs", text: (value) => count(value, "MACs") },
  "memory.device_bytes": { label: "device", text: bytes },
  "memory.peak_allocated_bytes": { label: "peak", text: bytes },
  "time.total_ms": { label: "time", text: milliseconds },
};
/** Share of a figure below which it counts as the same. */
const LEAST = 0.0005;

export const figureName = (name: string): string => (SHOWN[name] ? t(SHOWN[name]!.label) : name);
export const figureText = (name: string, value: number): string => (SHOWN[name]?.text ?? String)(value);

/** What is known on both sides; on a GPU the memory on the device stands for that of the tensors. */
function known(figures: Shift[]): { shift: Shift; index: number }[] {
  const onGpu = figures.some(({ name, after }) => name === "memory.device_bytes" && after !== null);
  return figures
    .map((shift, index) => ({ shift, index }))
    .filter(({ shift: { name, before, after } }) => name in SHOWN && before !== null && after !== null && !(onGpu && name === "memory.peak_allocated_bytes"));
}

const change = ({ before, after }: Shift): number => (before ? after! / before - 1 : 0);
export const isChanged = (shift: Shift): boolean => Math.abs(change(shift)) >= LEAST;

/** `field` names the list in the data: "advice.suggestions.0.figures". */
export function shifts(figures: Shift[], field: string): HTMLElement {
  const found = known(figures);
  const changed = found.filter(({ shift }) => isChanged(shift)).sort((a, b) => Math.abs(change(b.shift)) - Math.abs(change(a.shift)));
  const same = found.filter(({ shift }) => !isChanged(shift));
  return h(
    "div", { class: "shifts" },
    changed.length ? h("ul", {}, ...changed.map(({ shift, index }) => row(shift, `${field}.${index}`))) : h("p", { class: "dim" }, t("none")),
    same.length > 0 && changed.length > 0 && h("p", { class: "dim same" }, t("same", { names: same.map(({ shift }) => figureName(shift.name)).join(", ") })),
  );
}

function row(shift: Shift, field: string): HTMLElement {
  const { name } = shift;
  const [before, after] = [shift.before!, shift.after!];
  const most = Math.max(before, after) || 1;
  const isLess = after < before;
  const bar = (kind: string, value: number) => h("span", { class: kind, style: `width:${(100 * value) / most}%` });
  return h(
    "li", { class: isLess ? "better" : "worse", "data-figure": name },
    h("span", { class: "name" }, figureName(name)),
    h("span", { class: "bars", "aria-hidden": "true" }, bar("was", before), bar("is", after)),
    h("span", { class: "values" },
      h("span", { class: "before" }, figure(`${field}.before`, before, figureText(name, before))),
      h("span", { class: "arrow" }, "→"),
      h("b", {}, figure(`${field}.after`, after, figureText(name, after)))),
    before ? h("span", { class: "by" }, `${isLess ? "▼" : "▲"} ${signedShare(before, after)} ${t(isLess ? "less" : "more")}`) : null,
  );
}
