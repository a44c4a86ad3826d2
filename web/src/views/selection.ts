// The slim bar at the bottom: the selected module, its place and its figures.

import type { App } from "../app";
import { h, replace } from "../dom";
import { bytes, count, integer, milliseconds } from "../format";
import { texts } from "../language";

const t = texts(
  { none: "Nothing selected", clear: "Clear the selection", params: "parameters", macs: "MACs", saved: "activations", time: "time", label: "Selected module" },
  { none: "未选择", clear: "取消选择", params: "参数量", macs: "乘加次数", saved: "激活值", time: "时间", label: "所选模块" },
);

export function selectionBar(app: App): HTMLElement {
  const bar = h("footer", { class: "selection", "aria-label": t("label"), "aria-live": "polite" });
  const draw = () => {
    const part = app.state.selected === null ? undefined : app.model.byPath.get(app.state.selected);
    bar.toggleAttribute("hidden", !part);
    if (!part) return;
    const { model } = app;
    const path = [];
    for (let at: typeof part | null = part; at; at = at.parent) {
      const target = at;
      path.unshift(h("button", { type: "button", onclick: () => app.select(target.path) }, at.name));
    }
    const figures = [`${integer(model.total(part, "params"))} ${t("params")}`];
    if (model.hasRun) {
      figures.push(count(model.total(part, "macs"), "MACs"), `${bytes(model.total(part, "activation_bytes"))} ${t("saved")}`);
      if (model.report.time) figures.push(milliseconds(model.total(part, "time_ms")));
    }
    replace(
      bar,
      h("nav", { class: "path" }, ...path),
      h("code", {}, part.module.type),
      ...figures.map((text) => h("span", { class: "figure" }, text)),
      h("button", { type: "button", class: "clear", "aria-label": t("clear"), onclick: () => app.select(null) }, "×"),
    );
  };
  app.on((changed) => changed.has("selected") && draw());
  globalThis.addEventListener("keydown", (event: KeyboardEvent) => event.key === "Escape" && app.select(null));
  draw();
  return bar;
}
