// The one best change, in a line: what a summary looks for by itself.

import type { App } from "../../app";
import { h } from "../../dom";
import { texts, told } from "../../language";
import type { Suggestion } from "../../types";
import { badge } from "../advice/card";
import { shifts } from "../advice/shifts";

const t = texts(
  { title: "Try", more: "The command {command} with the same options looks for more." },
  { title: "建议", more: "用相同的选项运行 {command} 可查找更多。" },
);

export function bestChange(app: App, best: Suggestion): HTMLElement {
  const [start, end] = t("more").split("{command}");
  return h(
    "div", { class: "card best" },
    h("h3", {}, t("title")),
    h("p", { class: "line" }, h("strong", {}, h("bdi", {}, told(best.text, app.model.answer.chinese))), " ", badge(best.accuracy)),
    shifts(best.figures, "suggestion.figures"),
    h("p", { class: "dim" }, start, h("code", {}, "torchgauge advise"), end),
  );
}
