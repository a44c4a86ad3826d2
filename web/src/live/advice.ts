// What to change, on request: suggestions to apply, those that are applied, and the code to paste.

import "./advice.css";
import { h, replace, type Child } from "../dom";
import { texts, told } from "../language";
import { adviceParts, adviceReading, adviceTitle } from "../views/advice";
import { snippet } from "../views/advice/card";
import { block } from "../view";
import { progressText } from "./bar";
import type { Session } from "./session";
import { showStatus } from "./status";

const t = texts(
  {
    ask: "Find what to change", again: "Find again", reading: "Looks for changes of the model and of how it runs. Each is made on a copy and traced.",
    old: "Found before the last change. The figures are from then.", looking: "Looking for changes", tracing: "Trace {n} · {text}", first: "the step as it is",
    apply: "Apply", applyLabel: "Apply: {text}", applied: "Applied", list: "Applied changes", remove: "Remove", removeLabel: "Remove: {text}", undo: "Undo", undoTitle: "Take back the last applied change",
    found: "{n} suggestions", foundOne: "1 suggestion",
    code: "Code to paste",
  },
  {
    ask: "查找可以改什么", again: "重新查找", reading: "查找对模型和运行方式的改动，每处改动都在副本上完成并追踪。",
    old: "这些建议是上一次改动之前找到的，数值也是当时的。", looking: "正在查找改动", tracing: "第 {n} 次追踪 · {text}", first: "原来的一步",
    apply: "应用", applyLabel: "应用：{text}", applied: "已应用", list: "已应用的改动", remove: "移除", removeLabel: "移除：{text}", undo: "撤销", undoTitle: "撤销上一次应用的改动",
    found: "{n} 条建议", foundOne: "1 条建议",
    code: "可粘贴的代码",
  },
);

export function advicePanel(session: Session): HTMLElement {
  const ask = h("button", { type: "button", class: "ask", onclick: () => void session.advise() });
  const undo = h("button", { type: "button", class: "undo", title: t("undoTitle"), onclick: () => session.undo() }, t("undo"));
  const { element, body } = block("advice", adviceTitle(), "", undo, ask);
  element.classList.add("live-advice");
  const reading = element.querySelector(".reading")!;
  const status = h("div", { class: "status", role: "status" });
  const failed = h("p", { class: "failed", role: "alert", hidden: true });
  const applied = h("div", { class: "applied" });
  const list = h("div", { class: "list" });
  const summary = h("summary", {});
  const found = h("details", { class: "found", hidden: true }, summary, list);
  body.append(status, failed, applied, found);
  let drawn: unknown = null;
  const update = () => {
    const { advice } = session;
    const isBusy = session.adviceStatus.kind === "busy";
    replace(ask, advice ? t("again") : t("ask"));
    ask.disabled = isBusy || session.status.kind === "busy" || (advice !== null && session.isAdviceNew);
    undo.hidden = !session.canUndo;
    reading.textContent = !advice ? t("reading") : session.isAdviceNew ? adviceReading(advice.outcome) : t("old");
    showStatus(session.adviceStatus, status, failed, said, () => session.cancelAdvice());
    replace(applied, ...appliedChanges(session));
    // What is unfolded stays so while only the state of a button changes.
    if (advice?.outcome !== drawn) {
      drawn = advice?.outcome ?? null;
      found.hidden = !advice;
      found.open = true;
      const { suggestions = [] } = advice?.outcome.advice ?? {};
      summary.textContent = suggestions.length === 1 ? t("foundOne") : t("found", { n: suggestions.length });
      // What an applied change came to stands below: the list gives way.
      const apply = (index: number) => {
        found.open = false;
        session.apply(index);
      };
      replace(list, ...(advice ? adviceParts(session.app, advice.outcome, (index) => [applyButton(session, index, apply)]) : []));
    }
    for (const button of found.querySelectorAll<HTMLButtonElement>("button[data-apply]")) {
      const isApplied = session.isApplied(Number(button.dataset["apply"]));
      button.disabled = isApplied || session.status.kind === "busy";
      button.textContent = isApplied ? `✓ ${t("applied")}` : t("apply");
    }
  };
  session.on(update);
  update();
  return element;
}

function applyButton(session: Session, index: number, apply: (index: number) => void): HTMLElement {
  const { advice, chinese } = session.advice!.outcome;
  const text = told(advice.suggestions[index]!.text, chinese);
  return h("button", { type: "button", class: "apply", "data-apply": index, title: t("applyLabel", { text }), onclick: () => apply(index) }, t("apply"));
}

/** "trace 3: …" comes from src/torchgauge/advise/engine.py. */
function said(text: string): string {
  const [, number, what] = /^trace (\d+): (.*)$/s.exec(text) ?? [];
  if (number === undefined) return ["", "forward", "loss", "backward", "optimizer"].includes(text) ? t("looking") : progressText(text);
  return t("tracing", { n: number, text: number === "1" ? t("first") : what! });
}

function appliedChanges(session: Session): Child[] {
  const { applied } = session.outcome;
  if (!applied.length) return [];
  const code = applied.flatMap(({ where, snippet: lines }) => (lines.length ? [...(where.length ? [`# ${where.join(", ")}`] : []), ...lines] : []));
  return [
    h("h3", {}, t("list")),
    h("ol", {}, ...applied.map(({ text: english, chinese }, index) => {
      const text = told(english, chinese);
      const remove = h("button", { type: "button", "aria-label": t("removeLabel", { text }), onclick: () => session.remove(index) }, t("remove"));
      return h("li", {}, h("bdi", {}, text), " ", remove);
    })),
    code.length > 0 && h("h3", {}, t("code")),
    snippet(code),
  ];
}
