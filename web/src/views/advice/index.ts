// What to change: the way to the goal, faults, suggestions by rank, and what found nothing.

import "./advice.css";
import type { App } from "../../app";
import { h, type Child } from "../../dom";
import { texts } from "../../language";
import type { Advised } from "../../types";
import { block } from "../../view";
import type { View } from "../index";
import { suggestionCard } from "./card";
import { frontBlock } from "./front";
import { goalBlock } from "./path";
import { faultCards, quietRules } from "./rest";

const t = texts(
  {
    title: "What to change", reading: "Each change was made on a copy and traced again ({n} traces). The largest gain for the least cost comes first.",
    nothing: "Nothing that was tried saves anything.",
  },
  {
    title: "可以改什么", reading: "每处改动都在副本上完成并重新追踪（共 {n} 次）。收益最大、代价最小的排在最前。",
    nothing: "试过的改动都没有节省。",
  },
);

export const advice: View = {
  shows: (app) => app.data.advice !== undefined,
  make(app: App): HTMLElement {
    const advised = app.data.advice!;
    const { element, body } = block("advice", t("title"), adviceReading(advised));
    body.append(...adviceParts(app, advised));
    return element;
  },
};

export const adviceTitle = (): string => t("title");
export const adviceReading = ({ advice: { traces } }: Advised): string => t("reading", { n: traces });

/** `actions` gives what stands at the right of a suggestion. */
export function adviceParts(app: App, advised: Advised, actions: (index: number) => Child[] = () => []): HTMLElement[] {
  const { suggestions } = advised.advice;
  const cards = suggestions.map((_, index) =>
    h("li", {}, suggestionCard(app, advised, index, ...actions(index))));
  return [
    goalBlock(app, advised),
    ...faultCards(app, advised),
    cards.length ? h("ol", { class: "suggestions" }, ...cards) : h("p", { class: "empty" }, t("nothing")),
    frontBlock(advised),
    quietRules(advised),
  ].filter((part) => part !== null);
}
