// A range of operators: chosen by phase, by number or by dragging; the layers that run in it.

import type { App } from "../../app";
import { h, replace } from "../../dom";
import { bytes, integer, milliseconds, share } from "../../format";
import { texts } from "../../language";
import { phaseName } from "../../words";
import { layersIn } from "./layers";
import type { Points } from "./points";
import { selectable } from "./selectable";

const t = texts(
  {
    label: "Range of operators", from: "Operators from", to: "to", clear: "Clear the range", phases: "Take a phase",
    title: "Layers in the range", whole: "Layers of the step", time: "{n} operators · {value} · {share} of the step", bytes: "{n} operators · they move {value}",
    layer: "Layer", equal: "Equal layers", value: "Value", share: "Share", more: "{n} more layers with {share}", none: "No operator runs in this range.", outside: "outside of layers",
  },
  {
    label: "算子范围", from: "算子从", to: "到", clear: "清除范围", phases: "选择阶段",
    title: "范围内的层", whole: "这一步的层", time: "{n} 个算子 · {value} · 占这一步的 {share}", bytes: "{n} 个算子 · 读写 {value}",
    layer: "层", equal: "相同的层", value: "数值", share: "占比", more: "另有 {n} 层，占 {share}", none: "这个范围内没有算子。", outside: "层以外",
  },
);

const MOST = 12;

export function rangeControls(app: App, points: Points): HTMLElement {
  const first = Math.max(0, points.x(0, "operators"));
  const last = points.end("operators");
  const box = (label: string) => h("input", { type: "number", min: first, max: last, step: 1, "aria-label": label });
  const [from, to] = [box(t("from")), box(t("to"))];
  const typed = () => {
    const range = [from.valueAsNumber, to.valueAsNumber];
    if (range.every(Number.isFinite)) app.set({ range: [Math.min(...range), Math.max(...range)] });
  };
  from.addEventListener("change", typed);
  to.addEventListener("change", typed);
  const clear = h("button", { type: "button", onclick: () => app.set({ range: null }) }, t("clear"));
  const bands = points.bands("operators");
  const phases = bands.map((band) => h("button", { type: "button", onclick: () => app.set({ range: [band.first, band.last] }) }, phaseName(band.phase)));
  const show = () => {
    const { range } = app.state;
    from.value = String(range?.[0] ?? first);
    to.value = String(range?.[1] ?? last);
    clear.disabled = range === null;
  };
  app.on((changed) => changed.has("range") && show());
  show();
  return h(
    "div", { class: "range", role: "group", "aria-label": t("label") },
    bands.length > 1 && bands.length <= 12 && h("span", { class: "phases", role: "group", "aria-label": t("phases") }, ...phases),
    h("label", {}, h("span", {}, t("from")), from), h("label", {}, h("span", {}, t("to")), to), clear,
  );
}

export function rangePanel(app: App): HTMLElement {
  const title = h("h3", {});
  const summary = h("p", { class: "line", role: "status" });
  const rows = h("tbody", {});
  const more = h("p", { class: "dim" });
  const draw = () => {
    const { range } = app.state;
    const { by, operators, value: sum, layers } = layersIn(app.model, app.model.step!, range);
    const format = by === "time_ms" ? milliseconds : bytes;
    const total = app.model.report.time?.total_ms ?? 0;
    // The times of operators are rounded to a nanosecond each.
    const value = by === "time_ms" && Math.abs(sum - total) < 1e-4 * total ? total : sum;
    title.textContent = t(range ? "title" : "whole");
    summary.textContent = operators ? t(by === "time_ms" ? "time" : "bytes", { n: integer(operators), value: format(value), share: share(value, total) }) : t("none");
    const most = layers[0]?.value || 1;
    replace(rows, ...layers.slice(0, MOST).map((layer) =>
      h(
        "tr", { "data-path": layer.path },
        h("th", { scope: "row" }, layer.path && app.model.byPath.has(layer.path) ? selectable(app, layer.path, layer.name) : h("span", { class: "dim" }, t("outside")), h("span", { class: "fill", style: `width:${(100 * layer.value) / most}%` })),
        h("td", { class: "dim" }, layer.count > 1 && `× ${integer(layer.count)}`), h("td", {}, format(layer.value)), h("td", { class: "dim" }, share(layer.value, value)),
      )));
    const rest = layers.slice(MOST);
    more.textContent = rest.length ? t("more", { n: integer(rest.length), share: share(rest.reduce((all, layer) => all + layer.value, 0), value) }) : "";
  };
  app.on((changed) => changed.has("range") && draw());
  draw();
  return h(
    "div", { class: "panel in-range" }, title, summary,
    h("table", {}, h("colgroup", {}, h("col", { class: "wide" }), h("col", { class: "narrow" }), h("col", {}), h("col", {})), h("thead", { class: "visually-hidden" }, h("tr", {}, ...[t("layer"), t("equal"), t("value"), t("share")].map((text) => h("th", { scope: "col" }, text)))), rows),
    more,
  );
}
