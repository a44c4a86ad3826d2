// The way to a goal as a waterfall: each step stands on those before it, measured together.

import type { App } from "../../app";
import { h } from "../../dom";
import { figure } from "../../figure";
import { texts, told } from "../../language";
import { signedShare } from "../../signed";
import type { Advised } from "../../types";
import { more } from "./card";
import { figureName, figureText } from "./shifts";

const t = texts(
  {
    goal: "Goal", reached: "reached with {n} changes", reachedOne: "reached with 1 change", already: "reached already", missed: "not reached", start: "as it is",
    title: "The way there: {figure}", most: "at most {value}", steps: "Each step on top of those before it, traced together.",
  },
  {
    goal: "目标", reached: "用 {n} 处改动达成", reachedOne: "用 1 处改动达成", already: "已经达成", missed: "未达成", start: "原样",
    title: "达成路径：{figure}", most: "不超过 {value}", steps: "每一步都叠加在前面的步骤之上，一起追踪。",
  },
);

export function goalBlock(app: App, advised: Advised): HTMLElement | null {
  const { advice, chinese } = advised;
  const { goal, path, reached, nearest } = advice;
  if (!goal) return null;
  const said = !reached ? t("missed") : path.length > 1 ? t("reached", { n: path.length }) : path.length ? t("reachedOne") : t("already");
  return h(
    "div", { class: `goal ${reached ? "met" : "missed"}` },
    h("p", { class: "verdict" },
      h("span", { class: "dim" }, `${t("goal")} `), h("code", {}, h("bdi", {}, goal.text)), " ",
      h("strong", {}, h("span", { class: "sign", "aria-hidden": "true" }, reached ? "✓" : "✗"), said),
      nearest ? h("span", {}, ` · ${told(nearest, chinese)}`) : null),
    path.length > 0 && waterfall(app, advised),
  );
}

function waterfall(app: App, advised: Advised): HTMLElement | null {
  const { advice, chinese } = advised;
  const { path } = advice;
  const goal = advice.goal!;
  const values = path.map(({ figures }) => figures.findIndex(({ name }) => name === goal.figure));
  const start = path[0]!.figures[values[0]!]?.before;
  if (start === undefined || start === null || values.some((index) => index < 0)) return null;
  const most = goal.device === null ? goal.most : app.model.report.memory?.capacity_bytes ?? 0;
  const ends = path.map(({ figures }, step) => figures[values[step]!]!.after ?? 0);
  const whole = Math.max(start, most, ...ends) || 1;
  const width = (value: number) => `${(100 * value) / whole}%`;
  const line = () => most > 0 && h("span", { class: "limit", style: `left:${width(most)}` });
  const rows = path.map((step, index) => {
    const before = index ? ends[index - 1]! : start;
    const after = ends[index]!;
    const [low, high] = [Math.min(before, after), Math.max(before, after)];
    return h(
      "li", { class: step.reached ? "met" : "" },
      h("span", { class: "step" }, h("bdi", {}, told(step.text, chinese))),
      h("span", { class: "fall", "aria-hidden": "true" },
        h("span", { class: "left", style: `width:${width(low)}` }),
        h("span", { class: after <= before ? "saved" : "added", style: `left:${width(low)};width:${width(high - low)}` }), line()),
      h("span", { class: "value" },
        figure(`advice.path.${index}.figures.${values[index]}.after`, after, figureText(goal.figure, after)),
        h("span", { class: "dim" }, ` ${signedShare(start, after)}`)),
      step.change && more(app, step.change, advised),
    );
  });
  return h(
    "div", { class: "way" },
    h("h3", {}, t("title", { figure: figureName(goal.figure) })),
    h("p", { class: "dim" }, t("steps"), most > 0 && h("span", {}, ` ${t("goal")}: ${t("most", { value: figureText(goal.figure, most) })}`), most > 0 && h("span", { class: "limit-key", "aria-hidden": "true" })),
    h("ol", {},
      h("li", {},
        h("span", { class: "step dim" }, t("start")),
        h("span", { class: "fall", "aria-hidden": "true" }, h("span", { class: "left", style: `width:${width(start)}` }), line()),
        h("span", { class: "value" }, figure(`advice.path.0.figures.${values[0]}.before`, start, figureText(goal.figure, start)))),
      ...rows),
  );
}
