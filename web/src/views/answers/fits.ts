// Does it fit: what the step takes of the memory of each device, with its interval.

import type { App } from "../../app";
import { copyButton } from "../../copy";
import { h, type Child } from "../../dom";
import { figure } from "../../figure";
import { bytes, milliseconds, percent } from "../../format";
import { texts } from "../../language";
import type { Answer, Verdict } from "../../types";
import { explained } from "../../view";

/** The command that lists all GPUs. */
const LIST = "torchgauge devices";

const t = texts(
  {
    title: "Fits?", fits: "Fits", fragmented: "Fits only if cached memory is given back", close: "Too close to call", not: "Does not fit",
    needs: "needs", of: "of", between: "{low} to {high} in four of five cases", free: "{free} free", lacking: "{lacking} too little", used: "{share} used",
    why: "What the device shows as used at the peak: tensors, what the allocator keeps, and the CUDA context. The whiskers hold four of five cases. The black mark is the memory of the device.",
    whyLabel: "How the bar is read", bar: "{needed} of {capacity}; between {low} and {high} in four of five cases",
    step: "{time} a step",
    none: "No device was named, so there is no verdict.", peak: "Tensors take {peak} at the peak.", add: "Name a GPU to see whether it fits and how long it takes:", copy: "Copy {option}", list: "lists all GPUs", copyList: "Copy torchgauge devices, the command that lists all GPUs",
    structure: "The model did not run: give it an input size.", stopped: "It failed before the step ended, so there is no verdict.",
  },
  {
    title: "放得下吗？", fits: "放得下", fragmented: "释放缓存后才放得下", close: "太接近，无法判断", not: "放不下",
    needs: "需要", of: "，共有", between: "五次中有四次在 {low} 到 {high} 之间", free: "剩余 {free}", lacking: "还差 {lacking}", used: "占用 {share}",
    why: "峰值时设备显示的已用显存：张量、分配器的缓存、CUDA 上下文。误差线涵盖五分之四的情况，黑色刻度是设备的显存容量。",
    whyLabel: "如何看这个条形", bar: "{capacity} 中的 {needed}；五次中有四次在 {low} 到 {high} 之间",
    step: "一步 {time}",
    none: "没有指定设备，因此没有结论。", peak: "张量峰值占用 {peak}。", add: "指定一块 GPU，就能知道放不放得下、一步要多久：", copy: "复制 {option}", list: "列出所有 GPU", copyList: "复制 torchgauge devices：列出所有 GPU 的命令",
    structure: "模型没有运行：请给出输入尺寸。", stopped: "运行中途失败，因此没有结论。",
  },
);

type Device = Answer["devices"][number];

const VERDICTS: Record<Verdict, { words: "fits" | "fragmented" | "close" | "not"; sign: string; tone: string }> = {
  fits: { words: "fits", sign: "✓", tone: "good" },
  "fits-fragmented": { words: "fragmented", sign: "!", tone: "warning" },
  "too-close-to-call": { words: "close", sign: "≈", tone: "warning" },
  "does-not-fit": { words: "not", sign: "✕", tone: "bad" },
};

/** GPUs that most people can get, by the names that `torchgauge devices` lists. */
const COMMON = ["T4", "RTX 4090", "A100-SXM4-80GB", "H100-SXM"];
/** The bar ends a little beyond the larger of capacity and interval. */
const ROOM = 1.04;

export function fitsCard(app: App): HTMLElement {
  const { devices, report } = app.model.answer;
  const card = h("div", { class: "card fits" }, h("h3", {}, t("title"), devices.length > 0 && explained(t("why"), t("whyLabel"))));
  if (devices.length) card.append(...devices.map((device, index) => deviceRow(device, index, devices.length > 1)));
  else if (report.failure) card.append(h("p", { class: "empty" }, t("stopped")), ...peak(app));
  else if (!report.memory) card.append(h("p", { class: "empty" }, t("structure")), option("--input-size 3,224,224"));
  else card.append(...peak(app), h("p", { class: "empty" }, t("none"), " ", t("add")), ...chooser());
  return card;
}

/** Of several devices each has two lines and its bar: the rest is in the bar's label. */
function deviceRow(device: Device, index: number, many: boolean): HTMLElement {
  const { device_bytes: needed, capacity_bytes: capacity, low_bytes: low, high_bytes: high } = device;
  const { words, sign, tone } = VERDICTS[device.verdict];
  const end = Math.max(capacity, high, needed) * ROOM;
  const at = (value: number) => `${((100 * value) / end).toFixed(3)}%`;
  const field = (name: string) => `devices.${index}.${name}`;
  const label = t("bar", { needed: bytes(needed), capacity: bytes(capacity), low: bytes(low), high: bytes(high) });
  const children: Child[] = [
    h(
      "p", { class: "line verdict" },
      h("strong", { class: tone }, h("span", { class: "sign", "aria-hidden": "true" }, sign), t(words)),
      h("span", { class: "device" }, device.device),
    ),
    h(
      "div", { class: "bar", role: "img", "aria-label": label, title: label },
      h("span", { class: "capacity", style: `width:${at(capacity)}` }),
      h("span", { class: `used ${tone}`, style: `width:${at(needed)}` }),
      h("span", { class: "whisker", style: `left:${at(low)};width:${at(high - low)}` }),
      h("span", { class: "mark", style: `left:${at(capacity)}` }),
    ),
    h(
      "p", { class: "line" },
      t("needs"), " ", h("strong", {}, figure(field("device_bytes"), needed, bytes(needed))), " ",
      t("of"), " ", figure(field("capacity_bytes"), capacity, bytes(capacity)),
      many && ` · ${t("used", { share: percent(needed, capacity) })}`,
      many && device.total_ms !== null && h("span", {}, " · ", figure(field("total_ms"), device.total_ms, t("step", { time: milliseconds(device.total_ms) }))),
    ),
    !many && h("p", { class: "line" }, needed <= capacity ? t("free", { free: bytes(capacity - needed) }) : t("lacking", { lacking: bytes(needed - capacity) }), " · ", t("used", { share: percent(needed, capacity) })),
    !many && low < high && h("p", { class: "line dim" }, t("between", { low: bytes(low), high: bytes(high) })),
  ];
  return h("div", { class: "on-device" }, ...children.filter(Boolean));
}

function peak(app: App): HTMLElement[] {
  const { memory } = app.model.report;
  if (!memory) return [];
  const size = bytes(memory.peak_allocated_bytes);
  return [h("p", { class: "line" }, figure("memory.peak_allocated_bytes", memory.peak_allocated_bytes, t("peak", { peak: size })))];
}

function chooser(): HTMLElement[] {
  const options = COMMON.map((name) => option(`--device ${name.includes(" ") ? `"${name}"` : name}`));
  return [
    h("div", { class: "options" }, ...options),
    h("p", { class: "dim" }, copyButton(() => LIST, t("copy", { option: LIST }), LIST), " ", t("list")),
  ];
}

function option(text: string): HTMLElement {
  const button = copyButton(() => text, t("copy", { option: text }), text);
  button.classList.add("mono");
  return button;
}
