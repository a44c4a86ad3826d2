// The picture: areas by role, phases as bands, the peak pinned.

import { LineChart } from "echarts/charts";
import { GridComponent, MarkAreaComponent, MarkLineComponent } from "echarts/components";
import type { App } from "../../app";
import { axisStyle, chart, color, tooltipStyle, use } from "../../chart";
import { h } from "../../dom";
import { bytes, integer, milliseconds } from "../../format";
import { texts } from "../../language";
import { operatorName, phaseName, roleName } from "../../words";
import { brush } from "./brush";
import { stretchesOf } from "./layers";
import { overlay } from "./overlay";
import type { Axis, Band, Points } from "./points";
import { byteTicks } from "./ticks";

use([LineChart, GridComponent, MarkAreaComponent, MarkLineComponent]);

const t = texts(
  {
    label: "Memory over the step. It peaks at {peak} in the {phase}, at operator {op}{module}.", in: " of {module}", peak: "peak {size}", capacity: "{device} {size}",
    table: "Memory by phase", phase: "Phase", most: "Most", operator: "operator {op}", start: "before the step", all: "all tensors",
  },
  {
    label: "一步中的显存。峰值 {peak}，在{phase}的第 {op} 个算子{module}。", in: "（{module}）", peak: "峰值 {size}", capacity: "{device} {size}",
    table: "各阶段的显存", phase: "阶段", most: "最大", operator: "第 {op} 个算子", start: "这一步之前", all: "所有张量",
  },
);

/** A capacity much beyond the peak would press the picture flat. */
const CAPACITY_SHOWN = 1.6;
/** More marks of a selected layer than this are not told apart. */
const MOST_MARKS = 1000;
/** A narrower band has no room for the name of its phase. */
const LABEL_PX = 75;

export interface MemoryChart {
  update(): void;
  showsCapacity: boolean;
}

export function memoryChart(element: HTMLElement, app: App, points: Points, axisOf: () => Axis): MemoryChart {
  const { model } = app;
  const memory = model.report.memory!;
  const { device } = model.report.scenario;
  const top = points.total(points.peak);
  const capacity = memory.capacity_bytes;
  const showsCapacity = capacity !== undefined && capacity < CAPACITY_SHOWN * top;
  const highest = showsCapacity ? Math.max(top, capacity) : top;
  const peak = points.timeline[points.peak]!;
  const place = { peak: bytes(memory.peak_allocated_bytes), phase: phaseName(peak.phase), op: peak.op, module: memory.peak_at.module ? t("in", { module: memory.peak_at.module }) : "" };
  let drawn: number[] = [];

  const series = () => {
    const axis = axisOf();
    drawn = points.drawn(axis);
    // What is drawn, for who cannot look at a canvas: tests.
    element.dataset["points"] = String(drawn.length);
    element.dataset["highest"] = String(drawn.reduce((most, index) => Math.max(most, points.total(index)), 0));
    const line = (name: string, tone: string, value: (index: number) => number) => {
      const data = drawn.map((index) => [points.x(index, axis), value(index)]);
      data.push([points.end(axis), value(points.length - 1)]);
      return {
        id: name, name, type: "line", step: "end", stack: "bytes", data, symbol: "none", silent: true, sampling: undefined,
        lineStyle: { width: 0 }, areaStyle: { color: color(tone), opacity: 0.85 }, itemStyle: { color: color(tone) }, emphasis: { disabled: true },
      };
    };
    if (!points.roles.length) return [line(t("all"), "accent", (index) => points.total(index))];
    return points.roles.map((role) => line(role, `role-${role}`, (index) => points.bytes(index, role)));
  };

  const marks = () => {
    const axis = axisOf();
    const end = points.end(axis);
    const px = element.clientWidth / (end - points.x(0, axis) || 1);
    const named = (band: Band) => (band.to - band.from) * px > LABEL_PX;
    const areas: unknown[] = points.bands(axis).map((band, index) => [
      { xAxis: band.from, name: phaseName(band.phase), itemStyle: { color: color("text"), opacity: index % 2 ? 0.05 : 0 }, label: { show: named(band), position: "insideTop", color: color("dim"), fontSize: 12 } },
      { xAxis: band.to },
    ]);
    const across = (points.x(points.peak, axis) - points.x(0, axis)) / (end - points.x(0, axis) || 1);
    const side = across > 0.9 ? "right" : across < 0.1 ? "left" : "center";
    const lines: unknown[] = [{
      xAxis: points.x(points.peak, axis), lineStyle: { color: color("text"), type: "dashed", width: 1.5 },
      label: { formatter: t("peak", { size: place.peak }), color: color("text"), fontSize: 13, fontWeight: "bold", position: "end", distance: 4, align: side },
    }];
    if (showsCapacity) {
      lines.push({
        yAxis: capacity, lineStyle: { color: color("bad"), type: "solid", width: 2 },
        label: { formatter: t("capacity", { device, size: bytes(capacity) }), color: color("bad"), fontSize: 12, position: "insideStartTop" },
      });
    }
    return { id: "marks", type: "line", data: [], silent: true, markArea: { silent: true, z: 5, animation: false, data: areas }, markLine: { silent: true, z: 6, symbol: "none", animation: false, data: lines } };
  };

  const option = () => {
    const axis = axisOf();
    const ticks = byteTicks(highest);
    return {
      animation: false,
      grid: { left: 8, right: 16, top: 30, bottom: 6, containLabel: true },
      xAxis: { type: "value", min: points.x(0, axis), max: points.end(axis), ...axisStyle(), splitLine: { show: false }, axisLabel: { color: color("dim"), fontSize: 12, showMinLabel: false, showMaxLabel: axis === "operators", hideOverlap: true, formatter: (value: number) => (axis === "time" ? round(milliseconds(value)) : integer(value)) } },
      yAxis: { type: "value", min: 0, ...ticks, ...axisStyle(), axisLabel: { color: color("dim"), fontSize: 12, formatter: (value: number) => round(bytes(value)) } },
      tooltip: { trigger: "axis", ...tooltipStyle(), axisPointer: { type: "line", lineStyle: { color: color("text") } }, formatter: (found: { dataIndex: number }[]) => tip(drawn[Math.min(found[0]!.dataIndex, drawn.length - 1)]!) },
      series: [...series(), marks()],
    };
  };

  const tip = (index: number): HTMLElement => {
    const point = points.timeline[index]!;
    const at = operatorAt(app, point.op);
    return h(
      "div", { class: "tip" },
      h("div", {}, h("strong", {}, bytes(points.total(index))), ` · ${phaseName(point.phase)} · ${point.op < 0 ? t("start") : t("operator", { op: integer(point.op) })}`),
      at && h("div", {}, h("code", {}, operatorName(at.name)), " ", h("bdi", {}, at.module.slice(0, 120))),
      ...points.roles.filter((role) => points.bytes(index, role) > 0).reverse().map((role) =>
        h("div", { class: "tip-role" }, h("span", { class: "swatch", style: `background:var(--role-${role})` }), roleName(role), h("span", {}, bytes(points.bytes(index, role))))),
    );
  };

  const drawing = chart(element, app, option, t("label", place), () => ({
    caption: t("table"), head: [t("phase"), t("most")],
    rows: points.bands("operators").map((band) => [phaseName(band.phase), bytes(mostIn(points, band.from, band.to))]),
  }));
  const toX = (op: number) => (axisOf() === "operators" ? op : points.x(points.at(op, "operators"), axisOf()));
  const mark = overlay(element, drawing.instance, () => {
    const { selected, range } = app.state;
    const stretches = selected === null || !model.step ? [] : stretchesOf(model, selected).slice(0, MOST_MARKS);
    return { range: range && [toX(range[0]), toX(range[1] + 1)], lane: stretches.map(([from, to]) => [toX(from), toX(to)]) };
  });
  app.on((changed) => (changed.has("selected") || changed.has("range")) && mark());
  brush(element, drawing.instance, {
    enabled: model.step !== null,
    toOperator: (x) => (axisOf() === "operators" ? Math.round(x) : points.timeline[points.at(x, axisOf())]!.op),
    range: (range) => app.set({ range }),
    pick: (op) => {
      const at = operatorAt(app, op);
      if (at && model.byPath.has(at.module)) app.select(at.module);
    },
  });
  return { update: drawing.update, showsCapacity };
}

/** Ticks stand at round figures. */
const round = (text: string): string => text.replace(/\.0+ /, " ");

function mostIn(points: Points, from: number, to: number): number {
  let most = 0;
  for (let index = points.at(from, "operators"); index < points.length && points.x(index, "operators") < to; index += 1) most = Math.max(most, points.total(index));
  return most;
}

/** The operator of an index in the trace, or the last before it. */
function operatorAt(app: App, op: number): { name: string; module: string } | null {
  const { step } = app.model;
  if (!step || op < 0) return null;
  const { operators, texts: names } = step;
  let low = 0;
  let high = operators.op.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (operators.op[middle]! <= op) low = middle;
    else high = middle - 1;
  }
  return operators.op.length ? { name: names[operators.name[low]!]!, module: names[operators.module[low]!]! } : null;
}
