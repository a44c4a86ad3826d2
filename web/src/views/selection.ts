// The slim bar at the bottom: the selected module, its place and its figures.

import type { App } from "../app";
import { h, replace } from "../dom";
import { figure } from "../figure";
import { integer } from "../format";
import { texts } from "../language";
import { measuresOf } from "../measures";
import type { CostName } from "../model";

const t = texts(
  { none: "Nothing selected", clear: "Clear the selection", params: "parameters", saved: "activations", label: "Selected module" },
  { none: "未选择", clear: "取消选择", params: "个参数", saved: "激活值", label: "所选模块" },
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
    const shown = (cost: CostName, text: (value: number) => string) => {
      const value = model.total(part, cost);
      return figure(`modules.${part.index}.${cost}`, value, text(value));
    };
    const figures = [shown("params", (value) => `${integer(value)} ${t("params")}`)];
    if (model.hasRun) figures.push(...measuresOf(model).filter(({ key }) => key !== "params").map(({ cost, format, key }) => shown(cost, (value) => (key === "activation" ? `${format(value)} ${t("saved")}` : format(value)))));
    replace(
      bar,
      h("nav", { class: "path" }, ...path),
      h("code", {}, part.module.type),
      ...figures,
      h("button", { type: "button", class: "clear", "aria-label": t("clear"), onclick: () => app.select(null) }, "×"),
    );
  };
  app.on((changed) => changed.has("selected") && draw());
  globalThis.addEventListener("keydown", (event: KeyboardEvent) => event.key === "Escape" && app.select(null), { signal: app.signal });
  draw();
  return bar;
}
