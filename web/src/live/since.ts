// This version beside the last and the first one; each can be what is compared with below.

import "./besides.css";
import "./watch.css";
import { figures, type Figure } from "../compare/figures";
import { stateOf, step } from "../compare/signs";
import { h, replace } from "../dom";
import { exact } from "../figure";
import { texts } from "../language";
import type { Report } from "../types";
import { block } from "../view";
import type { Versions } from "./versions";

const t = texts(
  {
    title: "Versions", reading: "How this version differs from the one before and from the first. Choose the version to compare with below.",
    version: "Version", now: "Version {n} (now)", last: "Version {n} (before)", first: "Version {n} (first)", choose: "Compare with version {n}", same: "the same",
  },
  {
    title: "各版本", reading: "当前版本与上一版本、第一个版本相差多少。选择在下方与之比较的版本。",
    version: "版本", now: "版本 {n}（当前）", last: "版本 {n}（上一个）", first: "版本 {n}（第一个）", choose: "与版本 {n} 比较", same: "相同",
  },
);

const FIELDS = ["totals.params", "totals.forward_macs", "memory.device_bytes", "memory.peak_allocated_bytes", "time.total_ms"];

export function sinceBlock(versions: Versions): HTMLElement {
  const place = h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": t("title") });
  const { element, body } = block("versions", t("title"), t("reading"));
  element.classList.add("besides", "versions");
  body.append(place);
  const update = () => {
    const focused = place.querySelector("button:focus")?.closest("tr")?.dataset["version"];
    element.hidden = !versions.earlier.length;
    if (!element.hidden) replace(place, table(versions));
    if (focused !== undefined) place.querySelector<HTMLElement>(`tr[data-version="${focused}"] button`)?.focus();
  };
  versions.on(update);
  update();
  return element;
}

function table(versions: Versions): HTMLElement {
  const now = versions.answer(versions.number).report;
  const columns = figures(now, now).filter(({ field }) => FIELDS.includes(field));
  const compared = versions.compared?.answer;
  const row = (number: number) => {
    const { report } = versions.answer(number);
    const name = t(number === versions.number ? "now" : number === versions.now!.last ? "last" : "first", { n: number });
    const isCompared = versions.answer(number) === compared;
    const button = () => h("button", { type: "button", title: t("choose", { n: number }), "aria-pressed": String(isCompared), onclick: () => versions.compareWith(number) }, name);
    return h(
      "tr", { "data-version": number, "aria-current": String(isCompared) },
      h("th", { scope: "row" }, number === versions.number ? h("b", {}, name) : button()),
      ...cells(report, now, columns),
    );
  };
  return h(
    "table", {},
    h("thead", {}, h("tr", {}, ...[t("version"), ...columns.map(({ name }) => name)].map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...[versions.number, ...versions.earlier.reverse()].map(row)),
  );
}

/** What a version had, and the way from there to now. */
function cells(then: Report, now: Report, columns: Figure[]): HTMLElement[] {
  const found = figures(then, now);
  return columns.map(({ field }) => {
    const figure = found.find((one) => one.field === field);
    if (!figure || figure.before === null || figure.after === null) return h("td", {}, "–");
    const { before, after, text } = figure;
    const way = then === now ? null : before === after ? t("same") : step(before, after, text).join(" · ");
    return h(
      "td", { class: then === now ? "" : stateOf(before, after, figure.better), title: exact(before), "data-field": field, "data-value": before },
      text(before), way && h("span", { class: "by" }, way),
    );
  });
}
