// Beside the graph: the part that is looked at, with its shapes, figures and neighbours.

import type { App } from "../../app";
import { h, replace, type Child } from "../../dom";
import { bytes, count, integer, milliseconds } from "../../format";
import { told } from "../../language";
import type { CostName, Part } from "../../model";
import { valuesText } from "../../shapes";
import type { NamedValue } from "../../types";
import type { Flowing } from "./scene";
import type { Item } from "./structure";
import { t } from "./words";

export interface Looked {
  item: Item;
  /** Of the module it stands for; null for an operator, an input, an output. */
  path: string | null;
  isOpen: boolean;
  canOpen: boolean;
  copy: number;
  above: { item: Item; flow: Flowing }[];
  below: { item: Item; flow: Flowing }[];
}

export interface Actions {
  toggle(item: Item): void;
  step(item: Item, by: number): void;
  go(item: Item): void;
  explain(flow: Flowing): string;
  describe(item: Item): string;
}

const MOST_NEIGHBOURS = 8;

export function details(element: HTMLElement, app: App, looked: Looked | null, actions: Actions): void {
  replace(element, failure(app), ...(looked ? about(app, looked, actions) : legend()));
}

function failure(app: App): HTMLElement | null {
  const { failure: failed } = app.model.report;
  if (!failed) return null;
  return h(
    "div", { class: "graph-failure", role: "note" },
    h("strong", {}, t("failed", { path: shortened(failed.path || app.model.root.name) })),
    h("p", {}, h("code", {}, failed.error_type), ` ${failed.error}`),
    failed.inputs.length ? h("p", { class: "mono" }, valuesText(failed.inputs, null).full) : null,
    failed.hint ? h("p", {}, `${t("hint")}: ${told(failed.hint, app.model.answer.chinese)}`) : null,
  );
}

function about(app: App, { item, path, isOpen, canOpen, copy, above, below }: Looked, actions: Actions): Child[] {
  const part = path !== null ? app.model.byPath.get(path) : undefined;
  const copies = item.copies.length;
  return [
    h("h3", {}, h("bdi", {}, shortened(path && (item.kind !== "fold" || isOpen) ? path : item.name))),
    h("p", { class: "graph-kind" }, actions.describe(item)),
    canOpen && h(
      "p", { class: "graph-actions" },
      h("button", { type: "button", onclick: () => actions.toggle(item) }, t(isOpen ? "close" : "open")),
      item.kind === "fold" && isOpen && h("button", { type: "button", "aria-label": t("previous"), title: t("previous"), onclick: () => actions.step(item, -1) }, "‹"),
      item.kind === "fold" && isOpen && h("span", {}, t("copyOf", { k: copy + 1, n: copies })),
      item.kind === "fold" && isOpen && h("button", { type: "button", "aria-label": t("next"), title: t("next"), onclick: () => actions.step(item, 1) }, "›"),
    ),
    part && figures(app, part, item, isOpen),
    neighbours(t("from"), above, actions),
    neighbours(t("to"), below, actions),
  ];
}

function figures(app: App, part: Part, item: Item, isOpen: boolean): HTMLElement {
  const { model } = app;
  const calls = part.module.calls.filter((call) => !call.recompute);
  const call = calls[Math.max(0, item.number - 1)] ?? calls[0];
  const rows: [string, Child][] = [];
  if (call) {
    rows.push([t("inputShapes"), written(call.inputs, model.report.batch_size)]);
    if (call.completed) rows.push([t("outputShapes"), written(call.outputs, model.report.batch_size)]);
  }
  const copies = item.kind === "fold" && !isOpen ? item.copies.length : 1;
  const figure = (title: string, field: CostName, write: (value: number) => string) => {
    const value = model.total(part, field);
    rows.push([title, h("span", { "data-value": value, "data-field": `modules.${part.index}.${field}`, title: String(value) }, copies > 1 && item.calls < 2 ? `${write(value)} × ${copies}` : write(value))]);
  };
  figure(t("params"), "params", integer);
  if (call) {
    figure(t("macs"), "macs", count);
    figure(t("activation"), "activation_bytes", bytes);
    if (model.report.time) figure(t("time"), "time_ms", milliseconds);
  }
  return h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

/** One line for each tensor. */
function written(values: readonly NamedValue[], batch: number | null): HTMLElement {
  return h("span", { class: "graph-values" }, ...valuesText(values, batch).all.map((text) => h("code", {}, shortened(text))));
}

function neighbours(title: string, list: { item: Item; flow: Flowing }[], actions: Actions): HTMLElement | null {
  if (!list.length) return null;
  const rest = list.length - MOST_NEIGHBOURS;
  return h(
    "div", { class: "graph-neighbours" },
    h("h4", {}, title),
    h(
      "ul", {},
      ...list.slice(0, MOST_NEIGHBOURS).map(({ item, flow }) => h("li", {}, h("button", { type: "button", onclick: () => actions.go(item) }, h("bdi", {}, shortened(item.name, 60))), h("code", {}, actions.explain(flow)))),
      rest > 0 && h("li", {}, t("more", { n: rest })),
    ),
  );
}

function legend(): Child[] {
  const sample = (kind: string, title: string) => h("li", {}, h("span", { class: `graph-sample ${kind}`, "aria-hidden": "true" }), title);
  return [
    h("p", { class: "graph-kind" }, t("nothing")),
    h("ul", { class: "graph-legend" }, sample("sample-leaf", t("legendLeaf")), sample("", t("legendOpen")), sample("sample-operator", t("legendOperator")), sample("sample-fold", t("legendFold")), sample("sample-failed", t("legendFailed")), sample("sample-chosen", t("legendSelected"))),
  ];
}

const LONGEST = 200;
export const shortened = (text: string, longest = LONGEST): string => (text.length > longest ? `${text.slice(0, longest)}…` : text);
