// What the time goes to, by kind of kernel: the part of each phase in its own shade.

import type { App } from "../../app";
import { h } from "../../dom";
import { figure } from "../../figure";
import { milliseconds, share } from "../../format";
import { texts } from "../../language";
import { kindName, operatorName, phaseName } from "../../words";

const t = texts(
  { title: "Time by kind of kernel", measured: "Time by operator", none: "No time is predicted. Name a GPU (--device) or calibrate this CPU (torchgauge measure --calibrate).", rest: "others", between: "between operators", reading: "Bars: forward, loss, backward, optimizer from left to right." },
  { title: "各类内核的时间", measured: "各算子的时间", none: "没有预测时间：请指定 GPU（--device）或校准本机 CPU（torchgauge measure --calibrate）。", rest: "其他", between: "算子之间", reading: "条形从左到右：前向、损失、反向、优化器。" },
);

const MOST = 10;
const PHASES = ["forward", "loss", "backward", "optimizer"] as const;

export function kindsPanel(app: App): HTMLElement {
  const { time } = app.model.report;
  if (!time?.ops.length) return h("div", { class: "panel" }, h("h3", {}, t("title")), h("p", { class: "empty" }, t("none")));
  const kinds = new Map<string, { value: number; phases: Record<string, number> }>();
  for (const op of time.ops) {
    let kind = kinds.get(op.kernel);
    if (!kind) kinds.set(op.kernel, (kind = { value: 0, phases: {} }));
    kind.value += op.time_ms;
    kind.phases[op.phase] = (kind.phases[op.phase] ?? 0) + op.time_ms;
  }
  const rows = [...kinds].sort((a, b) => b[1].value - a[1].value);
  const most = rows[0]![1].value || 1;
  const rest = rows.slice(MOST).reduce((sum, [, kind]) => sum + kind.value, 0);
  const row = (name: string, value: Node | string, part: number, bar: Node | null) =>
    h("li", {}, h("span", { class: "name" }, h("bdi", { title: name }, name)), h("span", { class: "value" }, value), h("span", { class: "dim share" }, share(part, time.total_ms)), bar);
  const plain = (name: string, value: number) => row(name, milliseconds(value), value, null);
  return h(
    "div", { class: "panel kinds" },
    h("h3", {}, t(time.measured ? "measured" : "title")),
    h("p", { class: "dim" }, t("reading")),
    h("ol", {},
      ...rows.slice(0, MOST).map(([kernel, { value, phases }]) => {
        const name = time.measured ? operatorName(kernel) : kindName(kernel);
        const parts = PHASES.filter((phase) => phases[phase]).map((phase) =>
          h("span", { class: `phase-${phase}`, style: `width:${(100 * phases[phase]!) / most}%`, title: `${phaseName(phase)} ${milliseconds(phases[phase]!)}` }));
        return row(name, figure(`kinds.${kernel}`, value, milliseconds(value), `${value} ms`), value, h("div", { class: "track" }, ...parts));
      }),
      rest > 0 && plain(t("rest"), rest),
      time.between_ops_ms > 0 && plain(t("between"), time.between_ops_ms)),
  );
}
