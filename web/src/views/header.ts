// Title, what was run, and the page's own switches.

import "./header.css";
import type { App } from "../app";
import { copyButton } from "../copy";
import { h } from "../dom";
import { figure } from "../figure";
import { integer, shape } from "../format";
import { language, texts } from "../language";
import type { Report } from "../types";
import { modeName } from "../words";

const t = texts(
  {
    theme: "Light or dark", other: "中文", otherLabel: "切换到中文", save: "Save data", saveLabel: "Save the data of this page as JSON",
    print: "Print", batch: "batch {n}", chips: "What was run", simulated: "simulated", real: "measured",
    copyAddress: "Copy the model's name", structure: "structure only", compiled: "compiled", checkpointing: "activation checkpointing",
    accumulation: "{n} accumulation steps", more: "{n} more inputs", asBuilt: "precision as built", noOptimizer: "no optimizer",
  },
  {
    theme: "浅色或深色", other: "English", otherLabel: "Switch to English", save: "保存数据", saveLabel: "把本页数据保存为 JSON",
    print: "打印", batch: "批大小 {n}", chips: "运行场景", simulated: "模拟", real: "实测",
    copyAddress: "复制模型名称", structure: "仅结构", compiled: "已编译", checkpointing: "梯度检查点",
    accumulation: "梯度累积 {n} 步", more: "另有 {n} 个输入", asBuilt: "精度：按模型原样", noOptimizer: "无优化器",
  },
);

const SHOWN_INPUTS = 2;

export function header(app: App): HTMLElement {
  const { report } = app.model;
  printLight(app);
  return h(
    "header", { class: "top" },
    h(
      "div", { class: "title" },
      h("h1", {}, h("bdi", {}, report.model.name)),
      report.model.spec && report.model.spec !== report.model.name && h("code", { class: "spec" }, h("bdi", {}, report.model.spec)),
      copyButton(() => report.model.spec ?? report.model.name, t("copyAddress")),
    ),
    h("ul", { class: "chips", "aria-label": t("chips") }, ...chips(report).map((chip) => h("li", {}, chip))),
    h(
      "div", { class: "switches" },
      h("button", { type: "button", title: t("saveLabel"), onclick: () => save(app) }, t("save")),
      h("button", { type: "button", onclick: () => print() }, t("print")),
      h("button", { type: "button", title: t("theme"), "aria-label": t("theme"), onclick: () => nextTheme(app) }, "◐"),
      h("button", { type: "button", lang: language() === "zh" ? "en" : "zh-CN", "aria-label": t("otherLabel"), onclick: () => app.set({ language: language() === "zh" ? "en" : "zh" }) }, t("other")),
    ),
  );
}

function chips(report: Report): (Node | string)[] {
  const { scenario, batch_size: batch } = report;
  if (!report.memory && !report.failure) return [t("structure")];
  const found: (Node | string)[] = [modeName(scenario.mode)];
  if (batch !== null) found.push(figure("batch_size", batch, t("batch", { n: integer(batch) })));
  found.push(scenario.precision === "as-built" ? t("asBuilt") : scenario.precision);
  if (scenario.mode === "training") found.push(scenario.optimizer ?? t("noOptimizer"));
  if (scenario["checkpointing"]) found.push(t("checkpointing"));
  if (Number(scenario["accumulation"] ?? 1) > 1) found.push(t("accumulation", { n: Number(scenario["accumulation"]) }));
  if (scenario["compiled"]) found.push(t("compiled"));
  found.push(scenario.device, t(report.execution));
  for (const input of report.inputs.slice(0, SHOWN_INPUTS)) {
    found.push(h("span", { title: input.dtype }, h("bdi", {}, input.name), " ", h("code", {}, input.shape ? shape(input.shape) : input.text ?? "")));
  }
  if (report.inputs.length > SHOWN_INPUTS) found.push(t("more", { n: report.inputs.length - SHOWN_INPUTS }));
  return found;
}

function nextTheme(app: App): void {
  const dark = app.state.theme === "dark" || (app.state.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  app.set({ theme: dark ? "light" : "dark" });
}

/** Paper is white, and pictures are drawn in the colours of the theme. */
function printLight(app: App): void {
  let { theme } = app.state;
  addEventListener("beforeprint", () => {
    theme = app.state.theme;
    app.set({ theme: "light" });
  }, { signal: app.signal });
  addEventListener("afterprint", () => app.set({ theme }), { signal: app.signal });
}

/** The JSON that `torchgauge.load` reads; of a comparison that of the changed model. */
function save(app: App): void {
  const { report } = app.model;
  const url = URL.createObjectURL(new Blob([JSON.stringify(report, null, 2)], { type: "application/json" }));
  const name = report.model.name.replace(/[^\w.-]+/g, "_").slice(0, 60) || "report";
  h("a", { href: url, download: `${name}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
