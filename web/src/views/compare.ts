// Two reports: what was asked differently, the figures that changed, and the layers that carry it.

import "./compare.css";
import type { App, Measure } from "../app";
import { figures, settings, type Figure } from "../compare/figures";
import { difference, layerChanges, type LayerChange } from "../compare/layers";
import { by, stateOf } from "../compare/signs";
import { h, replace } from "../dom";
import { exact } from "../figure";
import { bytes, count, integer, milliseconds } from "../format";
import { texts } from "../language";
import { signed } from "../signed";
import type { CostName, Model } from "../model";
import { block } from "../view";
import type { View } from "./index";

const t = texts(
  {
    title: "What changed", reading: "From the baseline to what is shown: the whole model first, then the layers, the largest difference first.",
    equal: "No difference: every figure and every layer is the same.", same: "the same",
    asked: "Different settings", layers: "Layers", rank: "Rank layers by", layer: "Layer", kind: "What", before: "Before", after: "After", change: "Change",
    added: "added", removed: "removed", changed: "changed", params: "Parameters", macs: "MACs", activation: "Activations", time: "Time",
    none: "No layer differs in this measure.", show: "Show {n} more", became: "was {type}", times: "× {n}", equalLayers: "{n} equal layers, each", fits: "Fits", equalFigures: "The same:",
  },
  {
    title: "变化", reading: "从基线到当前结果：先看整个模型，再看各层，差异最大的在前。",
    equal: "没有差异：所有数值和所有层都相同。", same: "相同",
    asked: "设置不同", layers: "各层", rank: "各层排序依据", layer: "层", kind: "情况", before: "之前", after: "之后", change: "变化",
    added: "新增", removed: "移除", changed: "改变", params: "参数量", macs: "乘加次数", activation: "激活值", time: "时间",
    none: "按此指标，各层没有差异。", show: "再显示 {n} 行", became: "原为 {type}", times: "× {n}", equalLayers: "{n} 个相同的层，每个", fits: "能否放下", equalFigures: "相同：",
  },
);

const STEP = 10;

interface Cost {
  name: CostName;
  text(value: number): string;
}

function costOf(measure: Measure, model: Model): Cost {
  if (measure === "params") return { name: "params", text: integer };
  if (measure === "macs") return { name: "macs", text: (value) => count(value, "MACs") };
  if (measure === "time") return { name: "time_ms", text: milliseconds };
  const isTraining = model.report.scenario.mode === "training";
  return { name: isTraining ? "saved_activation_bytes" : "activation_bytes", text: bytes };
}

export const compare: View = {
  shows: (app) => app.baseline !== null,
  make(app: App): HTMLElement {
    const [before, after] = [app.baseline!, app.model];
    const rows = h("div", { class: "layers" });
    const measures = h("div", { class: "measures", role: "group", "aria-label": t("rank") });
    const { element, body } = block("compare", t("title"), t("reading"), measures);
    element.classList.add("compare");

    const asked = settings(before.report, after.report);
    const found = figures(before.report, after.report);
    const open: Measure[] = (["params", "macs", "activation", "time"] as const).filter(
      (measure) => layerChanges(before, after, costOf(measure, after).name, app.data.layers).length,
    );
    if (!asked.length && !open.length && found.every((figure) => figure.before === figure.after)) {
      measures.hidden = true;
      body.append(h("p", { class: "same" }, t("equal")));
      return element;
    }
    if (asked.length) {
      body.append(h("ul", { class: "settings", "aria-label": t("asked") }, ...asked.map(({ name, before: was, after: is }) =>
        h("li", {}, `${name} `, h("bdi", {}, was), arrow(), h("b", {}, h("bdi", {}, is))))));
    }
    const changed = found.filter((figure) => figure.before !== figure.after);
    const equal = found.filter((figure) => figure.before === figure.after);
    body.append(h("ul", { class: "changes" }, verdicts(before, after), ...changed.map(card)));
    if (equal.length) {
      body.append(h("p", { class: "same" }, `${t("equalFigures")} `, ...equal.flatMap((figure, index) => [index ? " · " : "", unchanged(figure)])));
    }
    body.append(h("h3", {}, t("layers")), rows);

    let shown = STEP;
    // What most was changed for: memory of the layers, unless that is the same.
    let measure = open.includes(app.state.measure) ? app.state.measure : (["activation", "time", "macs", "params"] as const).find((one) => open.includes(one));
    const draw = () => {
      replace(measures, ...open.map((one) => h("button", {
        type: "button", "aria-pressed": String(one === measure),
        onclick: () => {
          measure = one;
          shown = STEP;
          draw();
          app.set({ measure: one });
          measures.querySelector<HTMLElement>("[aria-pressed=true]")?.focus();
        },
      }, t(one))));
      if (!measure) return replace(rows, h("p", { class: "same" }, t("none")));
      const cost = costOf(measure, after);
      const changes = layerChanges(before, after, cost.name, app.data.layers);
      const rest = changes.length - shown;
      replace(
        rows,
        h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("layers") }, table(app, changes.slice(0, shown), cost)),
        rest > 0 && h("button", {
          type: "button",
          onclick: () => {
            shown += 4 * STEP;
            draw();
          },
        }, t("show", { n: integer(rest) })),
      );
    };
    draw();
    app.on((changed) => {
      if (changed.has("measure") && open.includes(app.state.measure) && app.state.measure !== measure) {
        measure = app.state.measure;
        draw();
      }
      if (changed.has("selected")) {
        for (const row of rows.querySelectorAll<HTMLElement>("tr[data-path]")) row.setAttribute("aria-current", String(row.dataset["path"] === app.state.selected));
      }
    });
    return element;
  },
};

const arrow = () => h("span", { class: "arrow" }, "→");

/** What became of the verdict, where both have one. */
function verdicts(before: Model, after: Model): HTMLElement | null {
  const [was, is] = [before, after].map(({ report }) => report.memory?.verdict ?? null);
  if (!was || !is || was === is) return null;
  const state = is === "fits" ? "better" : was === "fits" ? "worse" : "";
  const sign = state === "better" ? "✓ " : state === "worse" ? "✗ " : "";
  const words = (text: string) => text.replaceAll("-", " ");
  return h(
    "li", { class: state, "data-compare": "memory.verdict" },
    h("span", { class: "name" }, t("fits")),
    h("span", { class: "was" }, words(was)), arrow(), h("span", { class: "is" }, `${sign}${words(is)}`),
    h("span", { class: "by" }, before.report.scenario.device === after.report.scenario.device ? after.report.scenario.device : `${before.report.scenario.device} → ${after.report.scenario.device}`),
  );
}

function card(figure: Figure): HTMLElement {
  const { field, name, before, after, text } = figure;
  return h(
    "li", { class: stateOf(before, after, figure.better), "data-compare": field, "data-before": before, "data-after": after },
    h("span", { class: "name" }, name),
    before !== null && h("span", { class: "was", title: exact(before) }, text(before)),
    before !== null && after !== null && arrow(),
    after !== null && h("span", { class: "is", title: exact(after) }, text(after)),
    h("span", { class: "by" }, by(before, after, text)),
  );
}

function unchanged({ field, name, after, text }: Figure): HTMLElement {
  return h("span", { title: exact(after!), "data-compare": field, "data-before": after, "data-after": after }, `${name} ${text(after!)}`);
}

// ------------------------------------------------------------------------ layers

function table(app: App, changes: LayerChange[], cost: Cost): HTMLElement {
  return h(
    "table", {},
    h("thead", {}, h("tr", {},
      h("th", { scope: "col", class: "layer" }, t("layer")), h("th", { scope: "col", class: "kind" }, t("kind")),
      h("th", { scope: "col", class: "was-column" }, t("before")), h("th", { scope: "col" }, t("after")), h("th", { scope: "col" }, t("change")))),
    h("tbody", {}, ...changes.map((change) => row(app, change, cost))),
  );
}

function row(app: App, change: LayerChange, cost: Cost): HTMLElement {
  const { kind, path, part, typeBefore, typeAfter, times, before, after } = change;
  const by = difference(change);
  const isNew = kind === "added";
  const isGone = kind === "removed";
  const sign = isNew ? "+" : isGone ? "−" : "~";
  return h(
    "tr", { "data-path": path, "data-before": before * times, "data-after": after * times, "aria-current": String(app.state.selected === path) },
    h("td", { class: "layer", title: path },
      isGone ? h("bdi", {}, path) : h("button", { type: "button", onclick: () => app.select(path) }, h("bdi", {}, path || part.name)),
      times > 1 && h("span", { class: "times", title: t("equalLayers", { n: times }) }, t("times", { n: times })),
      h("code", { class: "type" }, h("bdi", {}, typeAfter ?? typeBefore ?? "")),
      kind === "changed" && typeBefore !== typeAfter && h("span", { class: "times" }, t("became", { type: typeBefore! }))),
    h("td", { class: "kind", title: t(kind) }, sign, h("span", {}, ` ${t(kind)}`)),
    h("td", { class: "was-column" }, isNew ? "–" : cost.text(before * times)),
    h("td", {}, isGone ? "–" : cost.text(after * times)),
    h("td", { class: by ? (by < 0 ? "better" : "worse") : "same" }, by ? `${by > 0 ? "▲" : "▼"} ${signed(by, cost.text)}` : t("same")),
  );
}
