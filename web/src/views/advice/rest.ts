// What is no suggestion: faults, which stand first, and rules that found nothing, folded.

import type { App } from "../../app";
import { h } from "../../dom";
import { texts, told } from "../../language";
import type { Advised } from "../../types";
import { patch, places } from "./card";

const t = texts(
  { fault: "Fault", where: "Where", why: "Why", remedy: "Try", quiet: "{n} rules found nothing", quietOne: "1 rule found nothing" },
  { fault: "错误", where: "位置", why: "原因", remedy: "建议", quiet: "{n} 条规则没有发现问题", quietOne: "1 条规则没有发现问题" },
);

export function faultCards(app: App, { advice, chinese }: Advised): HTMLElement[] {
  return advice.faults.map((fault) => h(
    "article", { class: "fault", "data-rule": fault.rule },
    h("header", {}, h("h3", {}, h("span", { class: "sign", "aria-hidden": "true" }, "!"), `${t("fault")}: `, h("bdi", {}, told(fault.text, chinese)))),
    h("dl", {},
      h("dt", {}, t("where")), h("dd", {}, ...places(app, fault.where, fault.code)),
      h("dt", {}, t("why")), h("dd", {}, told(fault.why, chinese)),
      h("dt", {}, t("remedy")), h("dd", {}, told(fault.remedy, chinese))),
    patch(fault.patched, chinese),
  ));
}

export function quietRules({ advice, chinese }: Advised): HTMLElement | null {
  const { quiet } = advice;
  if (!quiet.length) return null;
  return h(
    "details", { class: "quiet" },
    h("summary", {}, quiet.length === 1 ? t("quietOne") : t("quiet", { n: quiet.length })),
    h("dl", {}, ...quiet.flatMap(({ rule, why }) => [h("dt", {}, h("code", {}, rule)), h("dd", {}, told(why, chinese))])),
  );
}
