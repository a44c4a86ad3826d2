// The answers: does it fit, how long does it take, how big is it, where is it heavy.

import "./answers.css";
import type { App } from "../app";
import { copyButton } from "../copy";
import { h } from "../dom";
import { texts } from "../language";
import { block } from "../view";
import { bestChange } from "./answers/best";
import { failureCard } from "./answers/failure";
import { fitsCard } from "./answers/fits";
import { heaviestCard } from "./answers/heaviest";
import { sizeCard } from "./answers/size";
import { timeCard } from "./answers/time";
import type { View } from "./index";

const t = texts(
  { title: "Answers", reading: "Whether it fits, how long a step takes, how big it is, and where. Hover a figure for the exact number.", copy: "Copy the answers as text", copyShort: "Copy" },
  { title: "结论", reading: "显存够不够、一步要多久、模型有多大、开销集中在哪里。悬停可看精确数值。", copy: "把结论复制为文本", copyShort: "复制" },
);

export const answers: View = {
  shows: () => true,
  make(app: App): HTMLElement {
    const cards = h("div", { class: "cards" }, fitsCard(app), timeCard(app), sizeCard(app), heaviestCard(app));
    const { element, body } = block("answers", t("title"), t("reading"), copyButton(() => asText(cards), t("copy"), t("copyShort")));
    const { failure, suggestion } = app.model.report;
    body.append(...(failure ? [failureCard(failure, app)] : []), cards, ...(suggestion && !app.data.advice ? [bestChange(app, suggestion)] : []));
    return element;
  },
};

/** One line for each line that is read; what only a screen reader or a hover says is left out. */
function asText(cards: HTMLElement): string {
  const lines: string[] = [];
  for (const card of cards.children) {
    for (const line of card.querySelectorAll<HTMLElement>("h3, .line")) {
      const text = (line.innerText ?? "").replace(/\s*\n\s*/g, " ").trim();
      if (text) lines.push(line.tagName === "H3" ? `\n${text}` : `  ${text}`);
    }
  }
  return lines.join("\n").trim();
}
