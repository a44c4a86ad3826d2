// Does it fit, how long, how big, what is heaviest.

import type { App } from "../app";
import { h } from "../dom";
import { bytes, count, integer, milliseconds, percent } from "../format";
import { texts } from "../language";
import { block } from "../view";
import type { View } from "./index";

const t = texts(
  { title: "Answers", reading: "How big it is, whether it fits, and how long a step takes.", params: "Parameters", compute: "Compute", memory: "Memory", time: "Time" },
  { title: "结论", reading: "模型有多大、显存够不够、一步要多久。", params: "参数量", compute: "计算量", memory: "显存", time: "时间" },
);

export const answers: View = {
  shows: () => true,
  make(app: App): HTMLElement {
    const { element, body } = block("answers", t("title"), t("reading"));
    const { totals, memory, time } = app.model.report;
    const rows: [string, string][] = [[t("params"), `${integer(totals.params)} · ${bytes(totals.param_bytes)}`]];
    if (memory) rows.push([t("compute"), count(totals.forward_macs, "MACs")], [t("memory"), bytes(memory.device_bytes ?? memory.peak_allocated_bytes)]);
    if (time) rows.push([t("time"), milliseconds(time.total_ms) + (time.predicted ? ` ± ${percent(time.predicted.error, 1)}` : "")]);
    body.append(h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
    return element;
  },
};
