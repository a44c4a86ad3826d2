// Several models beside each other, in the scenario that is shown.

import "./besides.css";
import { figures } from "../compare/figures";
import { h, replace } from "../dom";
import { exact } from "../figure";
import { texts } from "../language";
import type { Report } from "../types";
import { block } from "../view";
import type { Session } from "./session";
import type { Asked } from "./workbench";

const t = texts(
  {
    title: "Models", reading: "Each model in the same scenario. Choose one to see it below, compared with the baseline.", model: "Model",
    busy: "Analysing", waits: "Not asked yet", fits: "Fits", choose: "Show {name}", failed: "Failed: {message}",
  },
  {
    title: "模型", reading: "各模型在同一场景下的结果。选择一个，即可在下方与基线比较。", model: "模型",
    busy: "正在分析", waits: "尚未分析", fits: "能否放下", choose: "显示 {name}", failed: "失败：{message}",
  },
);

const FIELDS = ["totals.params", "totals.forward_macs", "memory.device_bytes", "memory.peak_allocated_bytes", "time.total_ms", "time.predicted.samples_per_second"];

export function besides(session: Session): HTMLElement {
  const place = h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": t("title") });
  const { element, body } = block("models", t("title"), t("reading"));
  element.classList.add("besides");
  element.hidden = session.bench.models.length < 2;
  body.append(place);
  if (element.hidden) return element;
  const update = () => {
    const focused = place.querySelector("button:focus")?.closest("tr")?.dataset["model"];
    replace(place, table(session));
    if (focused !== undefined) place.querySelector<HTMLElement>(`tr[data-model="${focused}"] button`)?.focus();
  };
  session.on(update);
  update();
  return element;
}

function table(session: Session): HTMLElement {
  const reports = session.besides.map((asked) => reportOf(session, asked));
  const known = reports.filter((report) => report !== null);
  const columns = FIELDS.flatMap((field) => {
    const found = known.map((report) => figures(report, report).find((one) => one.field === field)).find((one) => one !== undefined);
    return found ? [{ field, name: found.name }] : [];
  });
  const withVerdict = known.some(({ memory }) => memory?.verdict);
  const head = [t("model"), ...columns.map(({ name }) => name), ...(withVerdict ? [t("fits")] : [])];
  return h(
    "table", {},
    h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...session.besides.map((asked, model) => row(session, asked, model, reports[model]!, columns.map(({ field }) => field), withVerdict))),
  );
}

function reportOf(session: Session, asked: Asked): Report | null {
  const found = session.beside(asked);
  return found && typeof found === "object" && "answer" in found ? found.answer.report : null;
}

function row(session: Session, asked: Asked, model: number, report: Report | null, fields: string[], withVerdict: boolean): HTMLElement {
  const { spec } = session.bench.models[model]!;
  const found = session.beside(asked);
  const width = fields.length + Number(withVerdict);
  const problem = found && typeof found === "object" ? ("answer" in found ? found.error : found) : null;
  const cells = problem
    ? [h("td", { class: "message", colspan: width }, t("failed", { message: problem.message }))]
    : report
      ? figureCells(report, fields, withVerdict)
      : [h("td", { class: "waits", colspan: width }, found === "busy" ? t("busy") : t("waits"))];
  return h(
    "tr", { "data-model": model, "aria-current": String(session.now.model === model) },
    h("th", { scope: "row" }, h("button", { type: "button", title: t("choose", { name: spec }), onclick: () => session.choose(model) }, h("bdi", {}, spec))),
    ...cells,
  );
}

function figureCells(report: Report, fields: string[], withVerdict: boolean): HTMLElement[] {
  const all = figures(report, report);
  const cells = fields.map((field) => {
    const figure = all.find((one) => one.field === field);
    const value = figure?.after ?? null;
    return value === null ? h("td", {}, "–") : h("td", { title: exact(value), "data-beside": field, "data-value": value }, figure!.text(value));
  });
  if (withVerdict) cells.push(h("td", {}, report.memory?.verdict?.replaceAll("-", " ") ?? "–"));
  return cells;
}
