// When memory is used: over the step, by role; what is alive at the peak; what takes the time.

import "./when.css";
import type { App } from "../app";
import { h } from "../dom";
import { bytes } from "../format";
import { texts } from "../language";
import { switcher } from "../switcher";
import { block, explained } from "../view";
import type { View } from "./index";
import { kindsPanel } from "./when/kinds";
import { memoryChart } from "./when/memory";
import { alivePanel, peakPanel } from "./when/peak";
import { type Axis, Points } from "./when/points";
import { rangeControls, rangePanel } from "./when/range";

const t = texts(
  {
    title: "When", reading: "Memory of all tensors over one step, stacked by what it is for. Drag over a part to list its layers.",
    noRoles: "Memory of all tensors over one step. A loaded or measured report has no roles: analyze the model again to see them.",
    axis: "Axis", operators: "Operators", time: "Milliseconds", above: "{device} has {capacity}: more than the picture shows.",
    why: "Live bytes after each operator. The allocator's reserve and the CUDA context come on top: see “Fits?”.", whyLabel: "What is summed",
  },
  {
    title: "何时", reading: "一步中所有张量占用的显存，按用途堆叠。拖选一段即可列出其中的层。",
    noRoles: "一步中所有张量占用的显存。载入或实测的报告没有用途划分：重新分析模型即可看到。",
    axis: "横轴", operators: "算子", time: "毫秒", above: "{device} 有 {capacity}，超出图的范围。",
    why: "每个算子之后存活的字节数。分配器的预留和 CUDA 上下文另计，见“放得下吗？”。", whyLabel: "求和范围",
  },
);

/** The axis that was chosen: the view is made anew in another language or for another answer. */
const kept = new WeakMap<App, Axis>();

export const when: View = {
  shows: ({ model }) => (model.report.memory?.timeline.length ?? 0) > 1,
  make(app: App): HTMLElement {
    const { model } = app;
    const points = new Points(model);
    let axis = points.axes.find((one) => one === kept.get(app)) ?? points.axes.at(-1)!;
    const names = { operators: t("operators"), time: t("time") };
    const picker = switcher(t("axis"), points.axes.map((key) => ({ key, label: names[key] })), (key) => {
      axis = key;
      kept.set(app, key);
      picker.show(key);
      memory.update();
    });
    picker.show(axis);
    const { element, body } = block(
      "when", t("title"), t(points.roles.length ? "reading" : "noRoles"),
      points.axes.length > 1 && picker.element, explained(t("why"), t("whyLabel")),
    );
    const room = h("div", { class: "memory" });
    body.append(room);
    const memory = memoryChart(room, app, points, () => axis);
    const { capacity_bytes: capacity } = model.report.memory!;
    if (capacity && !memory.showsCapacity) body.append(h("p", { class: "dim note" }, t("above", { device: model.report.scenario.device, capacity: bytes(capacity) })));
    if (model.step) body.append(rangeControls(app, points));
    body.append(h("div", { class: "panels" }, model.step && rangePanel(app), h("div", { class: "column" }, peakPanel(app), kindsPanel(app)), alivePanel(app)));
    return element;
  },
};
