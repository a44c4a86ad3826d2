// Title, what was run, and the page's own switches.

import type { App } from "../app";
import { h } from "../dom";
import { language, texts } from "../language";

const t = texts(
  { theme: "Light or dark", other: "中文", otherLabel: "Switch to Chinese", simulated: "simulated", real: "measured" },
  { theme: "浅色或深色", other: "EN", otherLabel: "切换到英文", simulated: "模拟", real: "实测" },
);

export function header(app: App): HTMLElement {
  const { report } = app.model;
  const { scenario } = report;
  const chips = [
    scenario.mode,
    report.batch_size === null ? "" : `batch ${report.batch_size}`,
    scenario.precision,
    scenario.optimizer ?? "",
    scenario.device,
    t(report.execution),
  ].filter(Boolean);
  return h(
    "header", { class: "top" },
    h("h1", {}, report.model.name),
    h("ul", { class: "chips" }, ...chips.map((text) => h("li", {}, String(text)))),
    h(
      "div", { class: "switches" },
      h("button", { type: "button", title: t("theme"), "aria-label": t("theme"), onclick: () => nextTheme(app) }, "◐"),
      h("button", { type: "button", "aria-label": t("otherLabel"), onclick: otherLanguage }, t("other")),
    ),
  );
}

function nextTheme(app: App): void {
  const dark = app.state.theme === "dark" || (app.state.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  app.set({ theme: dark ? "light" : "dark" });
}

function otherLanguage(): void {
  const search = new URLSearchParams(location.search);
  search.set("lang", language() === "zh" ? "en" : "zh");
  location.search = search.toString();
}
