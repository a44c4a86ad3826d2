// How big it is: parameters, their bytes, multiply-adds; and whether everything was counted.

import type { App } from "../../app";
import { h, type Child } from "../../dom";
import { figure } from "../../figure";
import { bytes, count, integer, percent } from "../../format";
import { texts } from "../../language";
import { explained } from "../../view";

const t = texts(
  {
    title: "Size", params: "parameters", all: "all trainable", none: "none trainable", frozen: "{trainable} trainable, {frozen} frozen ({share})", stored: "Stored", buffers: "Buffers",
    forward: "Forward", step: "Step", counted: "everything counted", gaps: "{n} kinds of operator not counted", gap: "1 kind of operator not counted", see: "see the notes",
    why: "Each parameter counts once. 1 MAC = 2 FLOPs. MACs are those of products, convolutions and attention, as executed.", whyLabel: "What is counted",
    structure: "No MACs: the model did not run.", until: "MACs until the failure:",
  },
  {
    title: "规模", params: "个参数", all: "全部可训练", none: "全部冻结", frozen: "可训练 {trainable}，冻结 {frozen}（{share}）", stored: "存储", buffers: "缓冲区",
    forward: "前向", step: "一步", counted: "全部已计入", gaps: "{n} 种算子未计入", gap: "1 种算子未计入", see: "见说明",
    why: "每个参数只计一次。1 MAC = 2 FLOPs。乘加次数来自实际执行的矩阵乘、卷积和注意力。", whyLabel: "计入了什么",
    structure: "没有乘加次数：模型没有运行。", until: "失败之前的乘加次数：",
  },
);

export function sizeCard(app: App): HTMLElement {
  const { report } = app.model;
  const { totals, memory, not_counted: gaps } = report;
  const row = (name: string, ...values: Child[]) => h("p", { class: "line row" }, h("span", { class: "dim" }, name), " ", h("span", {}, ...values));
  const children: Child[] = [
    h("p", { class: "line large" }, figure("totals.params", totals.params, count(totals.params)), h("span", { class: "dim" }, ` ${t("params")}`)),
    totals.params > 0 && h("p", { class: "line dim" }, trainable(totals.trainable_params, totals.non_trainable_params)),
    row(t("stored"), figure("totals.param_bytes", totals.param_bytes, bytes(totals.param_bytes))),
    totals.buffer_bytes > 0 && row(t("buffers"), figure("totals.buffer_bytes", totals.buffer_bytes, bytes(totals.buffer_bytes))),
  ];
  if (memory) {
    if (report.failure) children.push(h("p", { class: "line dim" }, t("until")));
    children.push(
      row(t("forward"), h("strong", {}, figure("totals.forward_macs", totals.forward_macs, count(totals.forward_macs, "MACs")))),
      row("", figure("totals.forward_flops", totals.forward_flops, count(totals.forward_flops, "FLOPs"))),
      totals.total_flops > totals.forward_flops && row(t("step"), figure("totals.total_flops", totals.total_flops, count(totals.total_flops, "FLOPs"))),
      gaps.length
        ? h("p", { class: "line" }, h("span", { class: "warning" }, h("span", { class: "sign", "aria-hidden": "true" }, "!"), gaps.length === 1 ? t("gap") : t("gaps", { n: gaps.length })), " ", h("a", { href: "#notes", onclick: toNotes }, t("see")))
        : h("p", { class: "line" }, h("span", { class: "good" }, h("span", { class: "sign", "aria-hidden": "true" }, "✓"), t("counted"))),
    );
  } else children.push(h("p", { class: "empty" }, t("structure")));
  return h("div", { class: "card size" }, h("h3", {}, t("title"), explained(t("why"), t("whyLabel"))), ...children);
}

function trainable(part: number, frozen: number): Node | string {
  if (!frozen) return t("all");
  if (!part) return t("none");
  const text = t("frozen", { trainable: count(part), frozen: count(frozen), share: percent(frozen, part + frozen) });
  return h("span", { title: `${integer(part)} + ${integer(frozen)}` }, text);
}

/** The address holds the page's state, so the link must not change it. */
function toNotes(event: Event): void {
  event.preventDefault();
  document.getElementById("notes")?.scrollIntoView();
}
