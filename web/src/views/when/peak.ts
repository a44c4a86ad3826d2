// The moment of the peak: by role, and the largest tensors alive then.

import type { App } from "../../app";
import { h } from "../../dom";
import { figure } from "../../figure";
import { bytes, shape, share } from "../../format";
import { texts } from "../../language";
import type { Role } from "../../types";
import { operatorName, phaseName, ROLE_ORDER, roleName } from "../../words";
import { selectable } from "./selectable";

const t = texts(
  { title: "At the peak", where: "{size} in the {phase}", by: "by role", alive: "Largest tensors at the peak", whole: "whole model", bar: "Memory at the peak by role" },
  { title: "峰值时刻", where: "{phase}时 {size}", by: "按用途", alive: "峰值时最大的张量", whole: "整个模型", bar: "峰值显存的用途" },
);

/** Their labels are names, of other roles the operators that made them. */
const NAMED: ReadonlySet<Role> = new Set<Role>(["parameter", "buffer", "gradient", "optimizer_state", "input"]);

export function peakPanel(app: App): HTMLElement {
  const memory = app.model.report.memory!;
  const { peak_at: at, peak_allocated_bytes: peak } = memory;
  const roles = ROLE_ORDER.filter((role) => (memory.at_peak[role] ?? 0) > 0);
  const size = (role: Role) => memory.at_peak[role]!;
  const text = roles.map((role) => `${roleName(role)} ${bytes(size(role))}`).join(", ");
  return h(
    "div", { class: "panel peak" },
    h("h3", {}, t("title")),
    h(
      "p", { class: "line" }, h("strong", {}, figure("memory.peak_allocated_bytes", peak, bytes(peak))), ` · ${phaseName(at.phase)}`,
      at.op ? h("span", {}, " · ", h("code", {}, operatorName(at.op))) : null,
      at.module && app.model.byPath.has(at.module) ? h("span", {}, " · ", selectable(app, at.module)) : null,
    ),
    h("div", { class: "roles", role: "img", "aria-label": `${t("bar")}: ${text}` }, ...roles.map((role) => h("span", { style: `flex-grow:${size(role) / peak};background:var(--role-${role})`, title: `${roleName(role)} ${bytes(size(role))}` }))),
    h("ul", { class: "role-list" }, ...[...roles].sort((a, b) => size(b) - size(a)).map((role) =>
      h("li", {}, h("span", { class: "swatch", style: `background:var(--role-${role})` }), roleName(role), h("span", { class: "value" }, figure(`memory.at_peak.${role}`, size(role), bytes(size(role)))), h("span", { class: "dim" }, share(size(role), peak))))),
  );
}

/** The largest tensors that are alive then: what they are, who made them, and at which line of code. */
export function alivePanel(app: App): HTMLElement | null {
  const tensors = app.model.report.memory!.alive_at_peak ?? [];
  if (!tensors.length) return null;
  return h(
    "div", { class: "panel" },
    h("h3", {}, t("alive")),
    h("ol", { class: "alive" }, ...tensors.map((tensor, index) =>
      h(
        "li", { style: `border-color:var(--role-${tensor.role})` },
        h("span", { class: "value" }, figure(`memory.alive_at_peak.${index}.bytes`, tensor.bytes, bytes(tensor.bytes))),
        h("span", {}, app.model.byPath.has(tensor.module) ? selectable(app, tensor.module) : h("bdi", {}, tensor.module || t("whole"))),
        h("span", { class: "dim detail" }, [roleName(tensor.role), NAMED.has(tensor.role) ? tensor.label : operatorName(tensor.label), tensor.shape ? `${shape(tensor.shape)} ${tensor.dtype}` : "", tensor.code].filter(Boolean).join(" · ")),
      ))),
  );
}
