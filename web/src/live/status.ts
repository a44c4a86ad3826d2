// What is being done, or why it failed: of the report and of the advice.

import { h, replace } from "../dom";
import { texts } from "../language";
import type { Status } from "./session";

const t = texts(
  { cancel: "Cancel", gone: "The server does not answer", goneHint: "start torchgauge ui again and open the address that it prints", tryThis: "Try: {hint}" },
  { cancel: "取消", gone: "服务器没有响应", goneHint: "请重新运行 torchgauge ui，并打开它给出的新地址", tryThis: "建议：{hint}" },
);

/** `said` puts what is told into words; `cancel` ends it. */
export function showStatus(now: Status, status: HTMLElement, failed: HTMLElement, said: (text: string) => string, cancel: () => void): void {
  failed.hidden = now.kind !== "failed";
  if (now.kind === "failed") {
    const isGone = now.problem.status === 0;
    const hint = isGone ? t("goneHint") : now.problem.hint;
    replace(failed, h("b", {}, isGone ? t("gone") : now.problem.message), hint ? ` ${t("tryThis", { hint })}` : null);
  }
  if (now.kind !== "busy") return replace(status);
  const text = said(now.text);
  const label = status.querySelector(".text");
  if (label) label.textContent = text; // the mark goes on turning
  else {
    replace(
      status,
      h("span", { class: "mark", "aria-hidden": "true" }), h("span", { class: "text" }, text),
      h("button", { type: "button", class: "cancel", onclick: cancel }, t("cancel")),
    );
  }
}
