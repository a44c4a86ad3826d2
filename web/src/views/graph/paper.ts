// The scrolled paper that the graph is drawn on: zoom, drag, and bringing a place into sight.

import type { App } from "../../app";
import { h, replace, s } from "../../dom";
import type { Spot } from "./draw";
import { t } from "./words";

const [LEAST_ZOOM, MOST_ZOOM] = [0.15, 2.5];
const ZOOM_STEP = 1.25;
/** A pointer that moved less was a click. */
const DRAG_PIXELS = 5;
const EDGE = 16;

export class Paper {
  readonly svg = s("svg", { role: "tree", "aria-label": t("tree"), class: "graph" });
  readonly element = h("div", { class: "graph-canvas", tabindex: 0, role: "group", "aria-label": t("canvas") }, this.svg);
  readonly zoomed = h("output", { class: "graph-zoom" });
  /** The last press of the pointer became a drag. */
  dragged = false;
  private size = { width: 0, height: 0 };
  private zoom = 1;

  constructor(private readonly app: App) {
    this.element.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY / 300), event);
    }, { passive: false });
    this.drag();
  }

  show(elements: SVGElement[], size: { width: number; height: number }): void {
    this.size = size;
    const arrow = s("marker", { id: "graph-arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse", markerUnits: "userSpaceOnUse" }, s("path", { d: "M0 0.5 8 4 0 7.5z" }));
    replace(this.svg, s("defs", {}, arrow), ...elements);
    this.resized();
  }

  /** The height that shows all, as far as a window has room; it stays, so that nothing below moves. */
  settle(): void {
    this.element.style.height = `${Math.min(680, Math.max(260, this.size.height + 24))}px`;
  }

  toMiddle(): void {
    this.element.scrollLeft = (this.element.scrollWidth - this.element.clientWidth) / 2;
  }

  toTop(): void {
    this.element.scrollTop = 0;
  }

  zoomIn(): void {
    this.zoomBy(ZOOM_STEP);
  }

  zoomOut(): void {
    this.zoomBy(1 / ZOOM_STEP);
  }

  fit(): void {
    const { element, size } = this;
    this.zoom = Math.max(LEAST_ZOOM, Math.min(1.25, (element.clientWidth - 8) / size.width, (element.clientHeight - 8) / size.height));
    this.resized();
  }

  center(spot: Spot | undefined): void {
    if (!spot) return;
    const { element, zoom } = this;
    element.scrollTop = (spot.y + Math.min(spot.height, 200) / 2) * zoom - element.clientHeight / 2;
    element.scrollLeft = (spot.x + spot.width / 2) * zoom + this.margin() - element.clientWidth / 2;
  }

  /** Scroll as little as needed. */
  into({ x, y, width, height }: Spot): void {
    const { element, zoom } = this;
    const [left, top] = [x * zoom + this.margin(), y * zoom];
    const tall = Math.min(height * zoom, element.clientHeight - 2 * EDGE);
    if (top < element.scrollTop + EDGE) element.scrollTop = top - EDGE;
    else if (top + tall > element.scrollTop + element.clientHeight - EDGE) element.scrollTop = top + tall - element.clientHeight + EDGE;
    const wide = Math.min(width * zoom, element.clientWidth - 2 * EDGE);
    if (left < element.scrollLeft + EDGE) element.scrollLeft = left - EDGE;
    else if (left + wide > element.scrollLeft + element.clientWidth - EDGE) element.scrollLeft = left + wide - element.clientWidth + EDGE;
  }

  /** What was clicked stays under the pointer while the graph around it moves. */
  keepingPlace(spot: () => Spot | undefined, act: () => void): void {
    const before = this.placeOf(spot());
    act();
    const after = this.placeOf(spot());
    if (!before || !after) return;
    this.element.scrollLeft += after.x - before.x;
    this.element.scrollTop += after.y - before.y;
  }

  private placeOf(spot: Spot | undefined): { x: number; y: number } | null {
    if (!spot) return null;
    return { x: (spot.x + spot.width / 2) * this.zoom + this.margin() - this.element.scrollLeft, y: spot.y * this.zoom - this.element.scrollTop };
  }

  /** A graph that is narrower than its paper stands in the middle. */
  private margin(): number {
    return Math.max(0, (this.element.clientWidth - this.size.width * this.zoom) / 2);
  }

  private zoomBy(factor: number, at?: MouseEvent): void {
    const { element } = this;
    const box = element.getBoundingClientRect();
    const [px, py] = at ? [at.clientX - box.left, at.clientY - box.top] : [element.clientWidth / 2, element.clientHeight / 2];
    const [x, y] = [(element.scrollLeft + px - this.margin()) / this.zoom, (element.scrollTop + py) / this.zoom];
    this.zoom = Math.max(LEAST_ZOOM, Math.min(MOST_ZOOM, this.zoom * factor));
    this.resized();
    element.scrollLeft = x * this.zoom + this.margin() - px;
    element.scrollTop = y * this.zoom - py;
  }

  private resized(): void {
    const { width, height } = this.size;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("width", String(width * this.zoom));
    this.svg.setAttribute("height", String(height * this.zoom));
    replace(this.zoomed, `${Math.round(this.zoom * 100)} %`);
  }

  /** The mouse drags the paper; fingers scroll it as they do everywhere. */
  private drag(): void {
    const { element } = this;
    const { signal } = this.app;
    let start: { x: number; y: number; left: number; top: number } | null = null;
    element.addEventListener("pointerdown", (event) => {
      this.dragged = false;
      if (event.pointerType === "mouse" && event.button === 0) start = { x: event.clientX, y: event.clientY, left: element.scrollLeft, top: element.scrollTop };
    });
    globalThis.addEventListener("pointermove", (event: PointerEvent) => {
      if (!start) return;
      const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
      if (Math.hypot(dx, dy) > DRAG_PIXELS) this.dragged = true;
      if (!this.dragged) return;
      element.classList.add("dragging");
      element.scrollLeft = start.left - dx;
      element.scrollTop = start.top - dy;
    }, { signal });
    globalThis.addEventListener("pointerup", () => {
      start = null;
      element.classList.remove("dragging");
    }, { signal });
  }
}
