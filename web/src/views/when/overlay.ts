// What changes while one works, over the picture: the brushed range, and when the selected layer
// runs. The picture itself is not drawn again for it.

import type { EChartsType } from "echarts/core";
import { h, s } from "../../dom";

const LANE_PX = 7;
const NARROWEST_PX = 1.5;

export interface Shown {
  /** On the axis; null where nothing is brushed. */
  range: [number, number] | null;
  /** Stretches of the axis in which the selected layer runs. */
  lane: [number, number][];
}

/** Place it over the grid of a chart; `shown` says what, on the axis that is drawn. */
export function overlay(element: HTMLElement, instance: EChartsType, shown: () => Shown): () => void {
  const before = h("div", { class: "shade" });
  const after = h("div", { class: "shade" });
  const path = s("path");
  const lane = s("svg", { class: "lane", "aria-hidden": "true" }, path);
  element.append(before, after, lane);

  const place = () => {
    const grid = gridOf(instance);
    if (!grid) return;
    const { left, right, top, bottom } = grid;
    const px = (x: number) => Math.min(right, Math.max(left, instance.convertToPixel({ xAxisIndex: 0 }, x)));
    const { range, lane: stretches } = shown();
    const [from, to] = range ? [px(range[0]), px(range[1])] : [left, right];
    for (const [shade, start, end] of [[before, left, from], [after, to, right]] as const) {
      shade.style.cssText = `left:${start}px;width:${Math.max(0, end - start)}px;top:${top}px;height:${bottom - top}px`;
    }
    path.setAttribute("d", stretches.map(([start, end]) => {
      const at = px(start);
      return `M${at.toFixed(1)} ${bottom - LANE_PX}h${Math.max(NARROWEST_PX, px(end) - at).toFixed(1)}v${LANE_PX}H${at.toFixed(1)}z`;
    }).join(""));
    element.dataset["brushed"] = String(range !== null);
    element.dataset["lane"] = String(stretches.length);
  };
  instance.on("finished", place);
  return place;
}

/** Of the area between the axes, in pixels of the chart; null before it is drawn. */
function gridOf(instance: EChartsType): { left: number; right: number; top: number; bottom: number } | null {
  const option = instance.getOption() as { xAxis?: { min: number; max: number }[]; yAxis?: { max: number }[] } | undefined;
  const x = option?.xAxis?.[0];
  const y = option?.yAxis?.[0];
  if (!x || !y) return null;
  const across = (value: number) => instance.convertToPixel({ xAxisIndex: 0 }, value);
  const down = (value: number) => instance.convertToPixel({ yAxisIndex: 0 }, value);
  return { left: across(x.min), right: across(x.max), top: down(y.max), bottom: down(0) };
}
