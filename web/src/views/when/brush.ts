// Drag over a chart to take a range of its axis; a click without a drag picks one operator.

import type { EChartsType } from "echarts/core";

const CLICK_PX = 4;

interface Brush {
  enabled: boolean;
  toOperator: (x: number) => number;
  range: (range: [number, number] | null) => void;
  pick: (op: number) => void;
}

export function brush(element: HTMLElement, instance: EChartsType, { enabled, toOperator, range, pick }: Brush): void {
  if (!enabled) return;
  element.classList.add("brushed");
  let from: number | null = null;
  let waiting = 0;
  const place = (event: PointerEvent): number => event.clientX - element.getBoundingClientRect().left;
  const operator = (px: number) => Math.max(0, toOperator(instance.convertFromPixel({ xAxisIndex: 0 }, px) as unknown as number));
  const between = (to: number): [number, number] => {
    const [a, b] = [operator(from!), operator(to)];
    return a < b ? [a, b] : [b, a];
  };
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    from = place(event);
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = place(event);
    if (Math.abs(to - from) < CLICK_PX) return;
    // Once a frame: the lists below follow.
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => from !== null && range(between(to)));
  });
  element.addEventListener("pointerup", (event) => {
    if (from === null) return;
    cancelAnimationFrame(waiting);
    const to = place(event);
    if (Math.abs(to - from) < CLICK_PX) pick(operator(to));
    else range(between(to));
    from = null;
  });
  element.addEventListener("pointercancel", () => {
    from = null;
  });
}
