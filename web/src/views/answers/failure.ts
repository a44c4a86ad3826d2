// The layer that failed, on top of everything: where, with what, why, and what to do.

import type { App } from "../../app";
import { copyButton } from "../../copy";
import { h } from "../../dom";
import { shape } from "../../format";
import { told, texts } from "../../language";
import type { Failure } from "../../types";
import { visible } from "../../visible";
import { phaseName } from "../../words";

const t = texts(
  { title: "{layer} failed in the {phase}", whole: "The model", got: "Inputs", error: "Error", hint: "Try", copy: "Copy the error", show: "Show the layer", until: "Below is what ran before the failure." },
  { title: "{layer} 在{phase}中失败", whole: "模型", got: "输入", error: "错误", hint: "建议", copy: "复制错误", show: "查看该层", until: "下面是失败之前的结果。" },
);

export function failureCard(failure: Failure, app: App): HTMLElement {
  const layer = failure.path || t("whole");
  const inputs = failure.inputs.map((value) => `${value.name} ${value.shape ? `${shape(value.shape)} ${value.dtype ?? ""}` : value.text ?? ""}`.trim());
  const title = t("title", { layer: `${layer} (${failure.module_type})`, phase: phaseName(failure.phase) });
  const hint = told(failure.hint, app.model.answer.chinese);
  const error = `${failure.error_type}: ${failure.error}`;
  const text = () => [title, ...inputs.map((input) => `${t("got")}: ${input}`), error, hint && `${t("hint")}: ${hint}`].filter(Boolean).map((line) => visible(String(line))).join("\n");
  return h(
    "div", { class: "card failed", role: "alert" },
    h("h3", {}, h("span", { class: "sign", "aria-hidden": "true" }, "✕"), h("bdi", {}, title)),
    h(
      "dl", {},
      ...(inputs.length ? [h("dt", {}, t("got")), h("dd", {}, ...inputs.map((input) => h("code", {}, input)))] : []),
      h("dt", {}, t("error")), h("dd", {}, h("code", { class: "error" }, error)),
      ...(hint ? [h("dt", {}, t("hint")), h("dd", {}, hint)] : []),
    ),
    h(
      "p", { class: "actions" }, t("until"), " ",
      app.model.byPath.has(failure.path) && h("button", { type: "button", onclick: () => app.select(failure.path) }, t("show")),
      copyButton(text, t("copy")),
    ),
  );
}
