// What was not counted, guessed, warned about; how each number is made.

import "./notes.css";
import type { App } from "../app";
import { copyButton } from "../copy";
import { h, type Child } from "../dom";
import { figure } from "../figure";
import { bytes, count, integer, milliseconds } from "../format";
import { told, texts } from "../language";
import type { Report } from "../types";
import { block } from "../view";
import type { View } from "./index";

const t = texts(
  {
    title: "Notes", reading: "What the figures leave out, what they assume, and how each is made.",
    warnings: "Warnings", uncounted: "Not counted", all: "Everything was counted.", guesses: "Guessed", assumptions: "Assumptions", none: "Nothing was assumed.",
    operator: "Operator", calls: "Calls", why: "Why", made: "How each number is made", figure: "Figure", value: "Value", how: "How",
    params: "Parameters", paramsHow: "Each parameter once, however many names lead to it. Frozen ones and those of modules that are never called are included.",
    macs: "MACs, forward", macsHow: "Multiply-adds of every matrix product, convolution and attention that runs, by a formula per operator. 1 MAC = 2 FLOPs.",
    flops: "FLOPs, step", flopsHow: "Forward, backward as executed, and optimizer. A frozen layer has no weight gradient; a checkpointed block runs twice.",
    elementwise: "Element-wise FLOPs", elementwiseHow: "Activations, additions, normalization, softmax, pooling, reductions of the forward: a column of their own, not in the figures above.",
    peak: "Peak of tensors", peakHow: "Every storage is followed from its allocation to its last reference, through one step as a training loop repeats it.",
    peakMeasured: "Peak of tensors", peakMeasuredHow: "The blocks that PyTorch's allocator had given out at most while the step ran.",
    reserved: "Allocator", reservedHow: "All allocations go through a model of PyTorch's caching allocator. It keeps blocks that it no longer uses.",
    device: "On the device", deviceHow: "What the allocator holds plus the CUDA context. The interval holds four of five published figures of such steps.",
    time: "Time", timeHow: "The kernels of each operator at sustained rates, fitted on published measurements; small kernels wait for the CPU. ± holds four of five steps.",
    timeMeasured: "Time", timeMeasuredHow: "The step ran for real: the median of all repetitions.",
    versions: "torchgauge {tool} · PyTorch {torch} · report version {schema}", copy: "Copy the notes",
  },
  {
    title: "说明", reading: "哪些没有计入，依据了哪些假设，每个数值怎么得来。",
    warnings: "警告", uncounted: "未计入", all: "全部已计入。", guesses: "猜测", assumptions: "假设", none: "没有假设。",
    operator: "算子", calls: "次数", why: "原因", made: "每个数值怎么得来", figure: "数值", value: "大小", how: "方法",
    params: "参数量", paramsHow: "每个参数只计一次，不论有多少名称指向它。包括冻结的参数和从未调用的模块的参数。",
    macs: "前向乘加次数", macsHow: "实际运行的每个矩阵乘、卷积和注意力的乘加次数，每种算子有各自的公式。1 MAC = 2 FLOPs。",
    flops: "一步的 FLOPs", flopsHow: "前向、实际执行的反向和优化器。冻结的层没有权重梯度，梯度检查点的块运行两次。",
    elementwise: "逐元素 FLOPs", elementwiseHow: "前向中的激活函数、加法、归一化、softmax、池化和归约：单独一列，不在上面的数值里。",
    peak: "张量峰值", peakHow: "像训练循环那样重复一步，跟踪每块存储从分配到最后一次引用。",
    peakMeasured: "张量峰值", peakMeasuredHow: "这一步运行时 PyTorch 分配器最多分配出去的字节数。",
    reserved: "分配器", reservedHow: "所有分配都经过 PyTorch 缓存分配器的模型，它会保留不再使用的块。",
    device: "设备上", deviceHow: "分配器持有的显存加上 CUDA 上下文。区间涵盖同类公开数据的五分之四。",
    time: "时间", timeHow: "每个算子的内核按持续速率计算，速率由公开的实测数据拟合；小内核要等待 CPU。± 涵盖五分之四的情况。",
    timeMeasured: "时间", timeMeasuredHow: "这一步真实运行过：所有重复的中位数。",
    versions: "torchgauge {tool} · PyTorch {torch} · 报告版本 {schema}", copy: "复制说明",
  },
);

export const notes: View = {
  shows: () => true,
  make(app: App): HTMLElement {
    const { report, answer } = app.model;
    const said = (text: string) => told(text, answer.chinese);
    const lists = h("div", { class: "lists" }, ...warnings(report, said), ...uncounted(report, said), ...list(t("guesses"), (report.guesses ?? []).map(said)), ...list(t("assumptions"), report.assumptions.map(said), t("none")));
    const { element, body } = block("notes", t("title"), t("reading"), copyButton(() => body.innerText, t("copy")));
    body.append(
      lists,
      h("h3", {}, t("made")),
      h(
        "div", { class: "scrolled", tabindex: 0, role: "region", "aria-label": t("made") },
        h("table", { class: "made" }, h("thead", {}, h("tr", {}, ...[t("figure"), t("value"), t("how")].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, ...made(report))),
      ),
      h("p", { class: "dim" }, t("versions", { tool: report.tool.version, torch: report.torch_version, schema: report.schema_version })),
    );
    return element;
  },
};

function warnings(report: Report, said: (text: string) => string): Child[] {
  if (!report.warnings.length) return [];
  return [h("div", { class: "warned" }, h("h3", {}, h("span", { class: "sign", "aria-hidden": "true" }, "!"), t("warnings")), h("ul", {}, ...report.warnings.map((line) => h("li", {}, said(line)))))];
}

function uncounted(report: Report, said: (text: string) => string): Child[] {
  const gaps = report.not_counted;
  if (!gaps.length) return report.memory ? [h("div", {}, h("h3", {}, t("uncounted")), h("p", { class: "good" }, "✓ ", t("all")))] : [];
  return [
    h(
      "div", { class: "gaps" }, h("h3", {}, t("uncounted")),
      h(
        "table", {}, h("thead", {}, h("tr", {}, ...[t("operator"), t("calls"), t("why")].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, ...gaps.map((gap, index) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, gap.op)), h("td", {}, figure(`not_counted.${index}.calls`, gap.calls, integer(gap.calls))), h("td", {}, said(gap.why))))),
      ),
    ),
  ];
}

function list(title: string, lines: string[], empty = ""): Child[] {
  if (!lines.length && !empty) return [];
  return [h("div", {}, h("h3", {}, title), lines.length ? h("ul", {}, ...lines.map((line) => h("li", {}, line))) : h("p", { class: "dim" }, empty))];
}

function made({ totals, memory, time, execution }: Report): HTMLElement[] {
  const rows: HTMLElement[] = [];
  const row = (name: string, field: string, value: number | null | undefined, format: (value: number) => string, how: string) => {
    if (value === null || value === undefined) return;
    rows.push(h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, figure(field, value, format(value))), h("td", {}, how)));
  };
  row(t("params"), "totals.params", totals.params, count, t("paramsHow"));
  if (!memory) return rows;
  row(t("macs"), "totals.forward_macs", totals.forward_macs, (value) => count(value, "MACs"), t("macsHow"));
  if (totals.total_flops > totals.forward_flops) row(t("flops"), "totals.total_flops", totals.total_flops, (value) => count(value, "FLOPs"), t("flopsHow"));
  if (totals.elementwise_flops) row(t("elementwise"), "totals.elementwise_flops", totals.elementwise_flops, (value) => count(value, "FLOPs"), t("elementwiseHow"));
  const real = execution === "real";
  row(t(real ? "peakMeasured" : "peak"), "memory.peak_allocated_bytes", memory.peak_allocated_bytes, bytes, t(real ? "peakMeasuredHow" : "peakHow"));
  row(t("reserved"), "memory.peak_reserved_bytes", memory.peak_reserved_bytes, bytes, t("reservedHow"));
  row(t("device"), "memory.device_bytes", memory.device_bytes, bytes, t("deviceHow"));
  const timed = time?.measured ? "timeMeasured" : "time";
  row(t(timed), "time.total_ms", time?.total_ms, milliseconds, t(`${timed}How`));
  return rows;
}
