// What was not counted, guessed, warned about; how each number is made.

import type { App } from "../app";
import { h } from "../dom";
import { texts } from "../language";
import { block } from "../view";
import type { View } from "./index";

const t = texts(
  { title: "Notes", reading: "What the figures leave out and what they assume.", uncounted: "Not counted", all: "Everything was counted.", guesses: "Guessed", warnings: "Warnings", assumptions: "Assumptions", calls: "{n} calls" },
  { title: "说明", reading: "哪些没有计入，依据了哪些假设。", uncounted: "未计入", all: "全部已计入。", guesses: "猜测", warnings: "警告", assumptions: "假设", calls: "{n} 次调用" },
);

export const notes: View = {
  shows: () => true,
  make(app: App): HTMLElement {
    const { element, body } = block("notes", t("title"), t("reading"));
    const { report } = app.model;
    const list = (title: string, lines: string[], empty = "") => {
      if (!lines.length && !empty) return;
      body.append(h("h3", {}, title), lines.length ? h("ul", {}, ...lines.map((line) => h("li", {}, line))) : h("p", {}, empty));
    };
    list(t("warnings"), report.warnings);
    list(t("uncounted"), report.not_counted.map((gap) => `${gap.op} · ${t("calls", { n: gap.calls })} · ${gap.why}`), report.memory ? t("all") : "");
    list(t("guesses"), report.guesses ?? []);
    list(t("assumptions"), report.assumptions);
    return element;
  },
};
