// How long a step takes: predicted or measured, by phase, and what decides it.

import type { App } from "../../app";
import { h, type Child } from "../../dom";
import { figure } from "../../figure";
import { milliseconds, percent, rate, share } from "../../format";
import { texts } from "../../language";
import type { StepTime } from "../../types";
import { explained } from "../../view";
import { boundName, phaseName } from "../../words";

const t = texts(
  {
    title: "Time", step: "a step", rate: "{rate} samples/s", bound: "Bound by", phases: "Phases", mfu: "{share} of the peak FLOP/s (MFU)",
    predicted: "predicted for {device}", error: "± {error}", measured: "measured on {device}: median of {n} repetitions", interval: "{low} to {high} with {sure} confidence",
    whyPredicted: "The kernels of the step, one by one, at rates fitted on published measurements. Four of five measured steps stay within ±.",
    whyMeasured: "The step ran for real. The figure is the median of all repetitions.", whyLabel: "How the time was found",
    none: "No time is predicted. Name a GPU, or calibrate this CPU.", commands: "torchgauge measure --calibrate",
    structure: "The model did not run.", stopped: "The step failed before its end.",
    shares: "{compute} compute, {memory} memory, {launch} launch",
  },
  {
    title: "时间", step: "每步", rate: "每秒 {rate} 个样本", bound: "受限于", phases: "各阶段", mfu: "达到峰值算力的 {share}（MFU）",
    predicted: "{device} 上的预测值", error: "± {error}", measured: "{device} 上实测：{n} 次重复的中位数", interval: "{low} 到 {high}，置信度 {sure}",
    whyPredicted: "逐个计算这一步的内核，速率由公开的实测数据拟合。五次实测中有四次落在 ± 范围内。",
    whyMeasured: "这一步真实运行过，数值是所有重复的中位数。", whyLabel: "时间从哪里来",
    none: "没有预测时间：请指定 GPU，或校准本机 CPU。", commands: "torchgauge measure --calibrate",
    structure: "模型没有运行。", stopped: "这一步没有运行完。",
    shares: "计算 {compute}，显存带宽 {memory}，内核启动 {launch}",
  },
);

const PHASES = ["forward", "loss", "backward", "optimizer"] as const;
const BOUNDS = ["compute", "memory", "launch"] as const;
/** A shorter part of a bar has no room for its name. */
const NAMED_SHARE = 0.16;

export function timeCard(app: App): HTMLElement {
  const { time, failure, memory } = app.model.report;
  if (!time) {
    const empty = failure ? t("stopped") : memory ? t("none") : t("structure");
    return h("div", { class: "card time" }, h("h3", {}, t("title")), h("p", { class: "empty" }, empty));
  }
  const why = explained(t(time.measured ? "whyMeasured" : "whyPredicted"), t("whyLabel"));
  return h("div", { class: "card time" }, h("h3", {}, t("title"), why), ...total(time), ...source(time), ...bound(time), ...phases(time));
}

function total(time: StepTime): Child[] {
  const { predicted } = time;
  return [
    h(
      "p", { class: "line large" },
      figure("time.total_ms", time.total_ms, milliseconds(time.total_ms), `${time.total_ms} ms`), " ",
      predicted && h("span", { class: "error" }, figure("time.predicted.error", predicted.error, t("error", { error: percent(Math.round(predicted.error * 100) / 100, 1) }))),
      h("span", { class: "dim" }, ` ${t("step")}`),
    ),
  ];
}

function source(time: StepTime): Child[] {
  const { predicted, measured } = time;
  const found: Child[] = [];
  if (predicted?.samples_per_second) found.push(h("p", { class: "line" }, figure("time.predicted.samples_per_second", predicted.samples_per_second, t("rate", { rate: rate(predicted.samples_per_second) }))));
  if (measured) {
    const spread = measured.intervals["total"];
    found.push(h("p", { class: "line dim" }, t("measured", { device: measured.device, n: measured.repetitions })));
    if (spread) found.push(h("p", { class: "line dim" }, t("interval", { low: milliseconds(spread.low_ms), high: milliseconds(spread.high_ms), sure: percent(measured.confidence, 1) })));
  } else if (predicted) found.push(h("p", { class: "line dim" }, t("predicted", { device: predicted.device })));
  return found;
}

function bound(time: StepTime): Child[] {
  const { bound_by: shares, predicted } = time;
  if (!shares || !BOUNDS.some((name) => shares[name] > 0)) return [];
  const text = t("shares", Object.fromEntries(BOUNDS.map((name) => [name, share(shares[name], 1)])));
  const parts = BOUNDS.filter((name) => shares[name] > 0).map((name) => ({ name: boundName(name), value: shares[name], tone: `bound-${name}` }));
  return [
    h("p", { class: "line small" }, `${t("bound")} `, h("span", { class: "dim" }, text)),
    splitBar(parts, 1, text),
    predicted?.flops_share ? h("p", { class: "line dim" }, figure("time.predicted.flops_share", predicted.flops_share, t("mfu", { share: share(predicted.flops_share, 1) }))) : null,
  ];
}

function phases(time: StepTime): Child[] {
  const found = PHASES.map((name) => ({ name, value: time[`${name}_ms`] })).filter(({ value }) => value > 0);
  if (found.length < 2) return [];
  return [
    h(
      "p", { class: "line dim phases" },
      ...found.map(({ name, value }) => h("span", {}, `${phaseName(name)} `, figure(`time.${name}_ms`, value, milliseconds(value), `${value} ms`))),
    ),
  ];
}

function splitBar(parts: { name: string; value: number; tone: string }[], whole: number, label: string): HTMLElement {
  return h(
    "div", { class: "split", role: "img", "aria-label": label },
    ...parts.map(({ name, value, tone }) =>
      h("span", { class: tone, style: `flex-grow:${value / whole}`, title: `${name} ${share(value, whole)}` }, value / whole > NAMED_SHARE ? name : "")),
  );
}
