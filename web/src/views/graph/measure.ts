// How wide a text is drawn, in the fonts of graph.css.

export type Font = "name" | "type" | "shape";

const LONGEST = 80;
const SIZES: Record<Font, string> = { name: "600 13px", type: "12px", shape: "12px" };
const known = new Map<string, number>();
let context: CanvasRenderingContext2D | null = null;

export function textWidth(text: string, font: Font): number {
  const shown = text.slice(0, LONGEST);
  const key = `${font}${shown}`;
  const before = known.get(key);
  if (before !== undefined) return before;
  context ??= document.createElement("canvas").getContext("2d")!;
  const family = font === "shape" ? "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" : getComputedStyle(document.body).fontFamily;
  context.font = `${SIZES[font]} ${family}`;
  const width = context.measureText(shown).width;
  known.set(key, width);
  return width;
}

/** The beginning of a text that fits, with … where something is left out. */
export function cut(text: string, room: number, font: Font): string {
  if (text.length <= LONGEST && textWidth(text, font) <= room) return text;
  const signs = [...text.slice(0, LONGEST)];
  let [least, most] = [0, signs.length];
  while (least < most) {
    const middle = Math.ceil((least + most) / 2);
    if (textWidth(`${signs.slice(0, middle).join("")}…`, font) <= room) least = middle;
    else most = middle - 1;
  }
  return `${signs.slice(0, least).join("")}…`;
}

/** "[32, 64, 56, 56] float32" is 32×64×56×56 on an edge. */
export function shortShape(shape: string): string {
  const sizes = /^\[([^\]]*)\]/.exec(shape)?.[1];
  return sizes ? sizes.replaceAll(", ", "×") : "";
}
