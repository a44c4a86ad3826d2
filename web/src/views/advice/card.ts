// One suggestion: what to do, what it gains, where, why, what it costs, what was tried, the code.

import type { App } from "../../app";
import { copyButton } from "../../copy";
import { h, type Child } from "../../dom";
import { texts, told } from "../../language";
import type { Advised, Patch, Suggestion } from "../../types";
import { shifts } from "./shifts";

const t = texts(
  {
    none: "same function", small: "nearly the same", retrain: "needs retraining",
    noneTitle: "It computes the same, up to rounding.", smallTitle: "It computes nearly the same with the same weights.", retrainTitle: "It is another model: it has to be trained.",
    more: "Why, proof and code", where: "Where", why: "Why", cost: "Costs", source: "Source", proof: "Tried", code: "Code to paste", copy: "Copy the code", others: "and {n} more", show: "Show {path} in the page",
    step: "the whole step", check: "On your data", checked: "{metric} {before} → {after} on {n} samples", patch: "Patch", noPatch: "No patch: {why}",
  },
  {
    none: "结果不变", small: "几乎不变", retrain: "需要重新训练",
    noneTitle: "计算结果相同，只有舍入误差。", smallTitle: "权重不变，计算结果几乎相同。", retrainTitle: "这是另一个模型，必须重新训练。",
    more: "原因、验证与代码", where: "位置", why: "原因", cost: "代价", source: "来源", proof: "验证", code: "可粘贴的代码", copy: "复制代码", others: "另有 {n} 处", show: "在页面中显示 {path}",
    step: "整个一步", check: "在你的数据上", checked: "{metric} {before} → {after}，{n} 个样本", patch: "补丁", noPatch: "没有补丁：{why}",
  },
);

/** Paths that are named before the rest is counted. */
const NAMED = 6;

/** The first is unfolded; `actions` stand at its right. */
export function suggestionCard(app: App, advised: Advised, index: number, ...actions: Child[]): HTMLElement {
  const { advice, chinese } = advised;
  const item = advice.suggestions[index]!;
  return h(
    "article", { class: "suggestion", "data-rule": item.rule },
    h("header", {},
      h("h3", {}, h("bdi", {}, told(item.text, chinese))),
      badge(item.accuracy),
      ...actions),
    shifts(item.figures, `advice.suggestions.${index}.figures`),
    more(app, item, advised, index === 0),
  );
}

/** What stands behind a change: where, why, what it costs and was tried, the code, the patch. */
export function more(app: App, item: Suggestion, advised: Advised, open = false): HTMLElement {
  return h("details", { class: "more", open }, h("summary", {}, t("more")), reasons(app, item, advised), snippet(item.snippet), patch(item.patched, advised.chinese));
}

/** What a change does to what the model computes. */
export const badge = (accuracy: Suggestion["accuracy"]): HTMLElement => h("span", { class: `badge ${accuracy}`, title: t(`${accuracy}Title`) }, t(accuracy));

function reasons(app: App, item: Suggestion, { advice: { data_check: data }, chinese }: Advised): HTMLElement {
  const rows: Child[] = [];
  const row = (name: string, ...values: Child[]) => rows.push(h("dt", {}, name), h("dd", {}, ...values));
  row(t("where"), ...places(app, item.where, item.code));
  row(t("why"), told(item.why, chinese));
  if (item.cost) row(t("cost"), told(item.cost, chinese));
  if (item.source) row(t("source"), h("bdi", {}, item.source));
  for (const line of item.proof) row(t("proof"), told(line, chinese));
  if (item.check && data) {
    const { before, after, note } = item.check;
    row(t("check"), after === null ? told(note, chinese) : t("checked", { metric: data.metric, before: measure(before), after: measure(after), n: data.samples }), after !== null && note ? ` (${told(note, chinese)})` : null);
  }
  return h("dl", {}, ...rows);
}

const measure = (value: number): string => String(Number(value.toPrecision(4)));

/** The change in the user's own source, or why there is none. */
export function patch(patched: Patch | null | undefined, chinese: Record<string, string>): HTMLElement | null {
  if (!patched) return null;
  if (!patched.diff) return h("p", { class: "dim" }, t("noPatch", { why: told(patched.why_not, chinese) }));
  return h("div", { class: "patch" }, h("p", {}, t("patch"), ...patched.proof.map((line) => h("span", { class: "dim" }, ` · ${told(line, chinese)}`))), snippet(patched.diff.trimEnd().split("\n")));
}

/** The modules, each to be selected in the page, and the line of source. */
export function places(app: App, where: string[], code: string): Child[] {
  const found: Child[] = where.slice(0, NAMED).map((path) => app.model.byPath.has(path)
    ? h("button", { type: "button", class: "place", title: t("show", { path }), onclick: () => app.select(path) }, h("bdi", {}, path || app.model.root.name))
    : h("code", { class: "place" }, path));
  if (where.length > NAMED) found.push(h("span", { class: "dim" }, t("others", { n: where.length - NAMED })));
  if (code) found.push(h("code", { class: "line-of-code" }, h("bdi", {}, code)));
  return found.length ? found : [t("step")];
}

export function snippet(lines: string[]): HTMLElement | null {
  if (!lines.length) return null;
  const text = lines.join("\n");
  return h(
    "div", { class: "snippet" },
    h("pre", { tabindex: 0, role: "group", "aria-label": t("code") }, h("code", {}, text)),
    copyButton(() => text, t("copy")),
  );
}
