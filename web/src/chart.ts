// ECharts as every view uses it: colours of the page, its size, its theme, and a table to read.
//
// A view registers the charts and components that it draws: `use([LineChart, GridComponent])`.
// Tooltips: return an element from the formatter. A text would be parsed as markup.

import type { EChartsCoreOption, EChartsType } from "echarts/core";
import { init, use } from "echarts/core";
import { TooltipComponent } from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";
import type { App } from "./app";
import { h, replace } from "./dom";

use([CanvasRenderer, TooltipComponent]);

export { use };

/** What a screen reader reads in place of the canvas. */
export interface Table {
  caption: string;
  head: string[];
  rows: string[][];
}

export interface Chart {
  /** Draw again what `makeOption` returns. */
  update(): void;
  readonly instance: EChartsType;
}

/** More would only keep a screen reader busy; the views that list everything have it all. */
const MOST_ROWS = 60;

export const reducedMotion = (): boolean => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The value of a colour of styles.css, of the theme that is on: color("role-parameter"). */
export const color = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/**
 * Draw a chart in an element that has a height. It is drawn when it first has a size, and again
 * when its size or the theme changes. `label` says in one sentence what is seen.
 */
export function chart(element: HTMLElement, app: App, makeOption: () => EChartsCoreOption, label: string, table?: () => Table): Chart {
  const canvas = h("div", { class: "chart-canvas", role: "img", "aria-label": label });
  const readable = h("div", { class: "visually-hidden" });
  element.classList.add("chart");
  element.append(canvas, readable);
  const instance = init(canvas, null, { renderer: "canvas", width: 300, height: 150 });
  let drawn = false;

  const update = () => {
    if (!canvas.clientWidth) return;
    instance.setOption({ ...common(), ...makeOption() }, { notMerge: true });
    if (table) replace(readable, tableElement(table()));
    drawn = true;
  };
  const size = new ResizeObserver(() => {
    if (!canvas.clientWidth) return;
    instance.resize({ width: canvas.clientWidth, height: canvas.clientHeight });
    if (!drawn) update();
  });
  size.observe(canvas);
  app.signal.addEventListener("abort", () => {
    size.disconnect();
    instance.dispose();
  });
  app.on((changed) => changed.has("theme") && update());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", update, { signal: app.signal });
  return { update, instance };
}

/** Style for `tooltip` of an option: text of the page, on a card. */
export function tooltipStyle(): Record<string, unknown> {
  return {
    backgroundColor: color("card"), borderColor: color("line"), borderWidth: 1, padding: [6, 10],
    textStyle: { color: color("text"), fontSize: 13 }, confine: true, transitionDuration: 0,
    extraCssText: "max-width: min(26rem, 90vw); white-space: normal; overflow-wrap: anywhere; box-shadow: 0 2px 10px #0003;",
  };
}

/** Style for an axis: quiet lines, figures of 12 px. */
export function axisStyle(): Record<string, unknown> {
  return {
    axisLine: { show: true, onZero: false, lineStyle: { color: color("line") } },
    axisTick: { show: false },
    axisLabel: { color: color("dim"), fontSize: 12 },
    splitLine: { lineStyle: { color: color("line"), opacity: 0.6 } },
    nameTextStyle: { color: color("dim"), fontSize: 12 },
  };
}

function common(): EChartsCoreOption {
  return {
    backgroundColor: "transparent",
    animation: !reducedMotion(),
    animationDuration: 0,
    animationDurationUpdate: 150,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: color("text") },
  };
}

export function tableElement({ caption, head, rows }: Table): HTMLElement {
  return h(
    "table", {},
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.slice(0, MOST_ROWS).map((row) => h("tr", {}, ...row.map((text, index) => (index ? h("td", {}, text) : h("th", { scope: "row" }, text)))))),
  );
}
