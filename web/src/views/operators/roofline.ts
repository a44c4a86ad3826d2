// How fast each operator runs, against the datasheet's rate and bandwidth; without a time only how
// much arithmetic it does with each byte.

import { LineChart, ScatterChart } from "echarts/charts";
import { GridComponent } from "echarts/components";
import type { App } from "../../app";
import { axisStyle, chart, color, tooltipStyle, use, type Chart } from "../../chart";
import { h } from "../../dom";
import { bytes, count, integer, milliseconds, rate } from "../../format";
import { texts } from "../../language";
import { boundName, kindName, operatorName } from "../../words";
import { intensity, work, type Operator } from "./groups";

use([ScatterChart, LineChart, GridComponent]);

const t = texts(
  {
    label: "Roofline of {device}: {n} operators by FLOPs per byte and FLOP/s reached.", plain: "{n} operators by FLOPs per byte and FLOPs.", table: "Operators in the picture", operator: "Operator", module: "Module",
    x: "FLOPs per byte", y: "FLOP/s reached", work: "FLOPs", compute: "{rate}FLOP/s: {device} at its best", memory: "{rate}B/s", time: "Time", others: "others",
    reading: "Each dot is one operator in one module; its area is its time. Memory bandwidth limits operators under the slope, arithmetic those under the flat line. The further below a line, the more time is lost. Click a dot to select its module.",
    readingPlain: "No GPU was named, so their speed is unknown. Name one with --device. Left: operators that mostly move bytes. Right: operators that mostly compute.",
    none: "No operator here does arithmetic.", most: "{n} of {all} are drawn. The rest adds almost nothing.",
  },
  {
    label: "{device} 的屋顶线图：{n} 个算子的计算强度和达到的算力。", plain: "{n} 个算子的计算强度和计算量。", table: "图中的算子", operator: "算子", module: "模块",
    x: "FLOPs/字节", y: "达到的 FLOP/s", work: "FLOPs", compute: "{rate}FLOP/s：{device} 的上限", memory: "{rate}B/s", time: "时间", others: "其他",
    reading: "每个点是一个模块中的一种算子，面积表示时间。斜线处受显存带宽限制，水平线处受算力限制；离线越远，浪费越多。单击选择模块。",
    readingPlain: "没有指定 GPU，因此不知道运行速度：请用 --device 指定。左侧的算子主要在搬运数据，右侧的主要在计算。",
    none: "这里的算子没有算术运算。", most: "共 {all} 个，画出占绝大部分的 {n} 个。",
  },
);

const MOST_DOTS = 1500;
const NEARLY_ALL = 0.999;
const KIND_TONES = ["role-parameter", "role-gradient", "role-saved_activation", "role-optimizer_state", "role-temporary", "role-context", "role-output"];
const SYMBOLS = ["circle", "rect", "triangle", "diamond", "roundRect", "pin", "arrow"];
const SIGNS = ["●", "■", "▲", "◆", "▬", "⬇", "➤"];
const [LEAST_SIZE, MOST_SIZE] = [7, 34];

export class Roofline {
  readonly element = h("div", { class: "roofline" });
  private readonly legend = h("ul", { class: "roofline-legend" });
  private readonly empty = h("p", { class: "empty-state", hidden: true }, t("none"));
  private readonly said = h("p", { class: "reading" });
  private readonly drawing: Chart;
  private dots: Operator[] = [];
  private kinds: string[] = [];

  constructor(private readonly app: App, private readonly timed: boolean) {
    const canvas = h("div", { class: "roofline-chart" });
    this.element.append(this.said, canvas, this.empty, this.legend);
    this.drawing = chart(canvas, app, () => this.option(), this.label(), () => ({
      caption: t("table"), head: [t("operator"), t("module"), t("x"), this.timed ? t("y") : t("work")],
      rows: this.dots.map((dot) => [operatorName(dot.name), dot.module, rate(intensity(dot)), count(this.y(dot))]),
    }));
    this.drawing.instance.on("click", (event) => {
      const dot = this.dots[(event.data as { dot?: number } | undefined)?.dot ?? -1];
      if (dot) app.select(dot.module);
    });
  }

  show(operators: readonly Operator[]): void {
    const drawn = operators.filter((one) => work(one) > 0 && one.bytes > 0 && (!this.timed || one.time > 0));
    this.dots = this.heaviest(drawn);
    const spent = new Map<string, number>();
    for (const dot of this.dots) spent.set(dot.kind, (spent.get(dot.kind) ?? 0) + this.weight(dot));
    // What no kernel is known for comes last.
    this.kinds = [...spent].sort((a, b) => Number(!a[0]) - Number(!b[0]) || b[1] - a[1]).map(([kind]) => kind);
    this.empty.hidden = this.dots.length > 0;
    this.said.textContent = `${t(this.timed ? "reading" : "readingPlain")}${drawn.length > this.dots.length ? ` ${t("most", { n: integer(this.dots.length), all: integer(drawn.length) })}` : ""}`;
    this.legend.replaceChildren(...this.kinds.slice(0, KIND_TONES.length + 1).map((kind, index) => {
      const rest = index === KIND_TONES.length;
      return this.timed ? h("li", {}, h("span", { class: "sign", "aria-hidden": "true", style: `color: var(--${KIND_TONES[index] ?? "dim"})` }, SIGNS[index] ?? "●"), rest || !kind ? t("others") : kindName(kind)) : "";
    }));
    this.element.querySelector(".chart-canvas")!.setAttribute("aria-label", this.label());
    this.update();
  }

  update(): void {
    this.drawing.update();
  }

  /** Those that make up nearly all: the rest would only stretch the axes. */
  private heaviest(drawn: Operator[]): Operator[] {
    const ranked = [...drawn].sort((a, b) => this.weight(b) - this.weight(a));
    const all = ranked.reduce((sum, dot) => sum + this.weight(dot), 0);
    let sum = 0;
    const end = ranked.findIndex((dot) => (sum += this.weight(dot)) >= NEARLY_ALL * all);
    return ranked.slice(0, Math.min(MOST_DOTS, end + 1));
  }

  private weight(dot: Operator): number {
    return this.timed ? dot.time : work(dot);
  }

  private y(dot: Operator): number {
    return this.timed ? work(dot) / (dot.time / 1000) : work(dot);
  }

  private label(): string {
    const { roof } = this.app.model.step!;
    return this.timed && roof ? t("label", { device: roof.device, n: this.dots.length }) : t("plain", { n: this.dots.length });
  }

  private option() {
    const { roof } = this.app.model.step!;
    const xs = this.dots.map(intensity);
    const ys = this.dots.map((dot) => this.y(dot));
    const ridge = roof && this.timed ? roof.flops_per_second / roof.bytes_per_second : 1;
    const [left, right] = [decade(Math.min(ridge, ...xs), -1), decade(Math.max(ridge * 4, ...xs), 1)];
    const top = Math.max(1, ...ys, roof && this.timed ? roof.flops_per_second : 1);
    const axis = (name: string, least: number, most: number, gap: number) => ({
      ...axisStyle(), type: "log", name, nameLocation: "middle", nameGap: gap, min: least, max: most, axisLabel: { color: color("dim"), fontSize: 12, formatter: (value: number) => power(value), hideOverlap: true }, minorSplitLine: { show: false },
    });
    return {
      animation: false,
      grid: { left: 64, right: 20, top: 26, bottom: 46 },
      tooltip: { ...tooltipStyle(), trigger: "item", formatter: (event: { data?: { dot?: number } }) => this.tip(event.data?.dot) },
      xAxis: axis(t("x"), left, right, 28),
      yAxis: axis(this.timed ? t("y") : t("work"), decade(Math.min(top, ...ys), -1), decade(top * 1.5, 1), 46),
      series: [...(roof && this.timed ? this.roofs(left, right) : []), ...this.series()],
    };
  }

  /** The two limits; each is labelled where it stands. */
  private roofs(left: number, right: number) {
    const { device, flops_per_second, bytes_per_second } = this.app.model.step!.roof!;
    const ridge = flops_per_second / bytes_per_second;
    const line = (data: unknown[]) => ({ type: "line", data, symbol: "none", silent: true, lineStyle: { color: color("text"), width: 1.8 }, z: 1 });
    const label = (text: string, position: string, align: string) => ({ show: true, formatter: text, position, align, offset: [-4, -6], color: color("text"), fontSize: 12, textBorderColor: color("back"), textBorderWidth: 3 });
    const middle = Math.sqrt(left * ridge);
    return [
      line([[left, left * bytes_per_second], [ridge, flops_per_second], [right, flops_per_second]]),
      // Points without a size carry the labels.
      {
        type: "scatter", silent: true, symbolSize: 0.1, itemStyle: { color: "transparent" }, z: 4,
        data: [
          { value: [right, flops_per_second], label: label(t("compute", { rate: count(flops_per_second), device }), "top", "right") },
          { value: [middle, middle * bytes_per_second], label: label(t("memory", { rate: count(bytes_per_second) }), "left", "right") },
        ],
      },
    ];
  }

  private series() {
    const heaviest = Math.max(...this.dots.map((dot) => this.weight(dot)), 1e-12);
    const { selected } = this.app.state;
    const inside = (dot: Operator) => selected !== null && (selected === "" || dot.module === selected || dot.module.startsWith(`${selected}.`));
    return this.kinds.map((kind, index) => {
      const place = Math.min(index, KIND_TONES.length);
      return {
        type: "scatter", name: kindName(kind), symbol: SYMBOLS[place] ?? "circle", cursor: "pointer", z: 2,
        itemStyle: { color: color(this.timed ? (KIND_TONES[place] ?? "dim") : "accent"), opacity: 0.72, borderColor: color("back"), borderWidth: 0.8 },
        data: this.dots.flatMap((dot, number) => {
          if (dot.kind !== kind) return [];
          const marked = inside(dot) ? { itemStyle: { borderColor: color("text"), borderWidth: 2.5, opacity: 1 }, z: 3 } : {};
          return [{ value: [intensity(dot), this.y(dot)], dot: number, symbolSize: LEAST_SIZE + (MOST_SIZE - LEAST_SIZE) * Math.sqrt(this.weight(dot) / heaviest), ...marked }];
        }),
      };
    });
  }

  /** An element, so that no name is read as markup. */
  private tip(number: number | undefined): HTMLElement | string {
    const dot = this.dots[number ?? -1];
    if (!dot) return "";
    const lines = [
      `${rate(intensity(dot))} ${t("x")} · ${count(work(dot), "FLOPs")} · ${bytes(dot.bytes)}`,
      ...(this.timed ? [`${milliseconds(dot.time)} · ${count(this.y(dot), "FLOP/s")}${dot.bound ? ` · ${boundName(dot.bound)}` : ""}`] : []),
    ];
    return h("div", {}, h("strong", {}, operatorName(dot.name)), h("div", {}, h("bdi", {}, dot.module.slice(0, 200))), ...lines.map((line) => h("div", {}, line)));
  }
}

/** The power of ten at or beyond a value. */
function decade(value: number, direction: 1 | -1): number {
  const exponent = Math.log10(Math.max(value, 1e-9));
  return 10 ** (direction > 0 ? Math.ceil(exponent + 0.01) : Math.floor(exponent - 0.01));
}

function power(value: number): string {
  return value >= 1000 ? count(value).replace(".00", "") : String(Number(value.toPrecision(3)));
}
