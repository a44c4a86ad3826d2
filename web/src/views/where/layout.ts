// Where the boxes of an icicle stand: fractions of its width, rows from the top.

import type { Box, Boxes } from "../../boxes";

export interface Cell {
  box: Box;
  parent: Cell | null;
  row: number;
  left: number;
  width: number;
  /** Neighbours too narrow to see, drawn as one; 0 for a box of its own. */
  merged: number;
}

/** Deeper ones are seen after zooming in. */
export const MOST_ROWS = 9;
/** No more elements than a browser lays out within a frame. */
const MOST_CELLS = 800;

/** `narrowest`: the fraction of the width under which boxes are merged. */
export function layout(boxes: Boxes, root: Box, narrowest: number): Cell[] {
  const cells: Cell[] = [];
  const top: Cell = { box: root, parent: null, row: 0, left: 0, width: 1, merged: 0 };
  let row = [top];
  while (row.length && row[0]!.row < MOST_ROWS) {
    cells.push(...row);
    if (cells.length > MOST_CELLS) break;
    row = row.flatMap((cell) => (cell.merged ? [] : below(boxes, cell, narrowest)));
  }
  return cells;
}

function below(boxes: Boxes, parent: Cell, narrowest: number): Cell[] {
  const found: Cell[] = [];
  const { box } = parent;
  if (box.value <= 0) return found;
  let left = parent.left;
  for (const child of boxes.children(box)) {
    if (child.value <= 0) continue;
    const width = (parent.width * child.value) / box.value;
    const last = found.at(-1);
    if (width < narrowest && last?.merged) {
      last.width += width;
      last.merged += child.parts.length;
    } else {
      found.push({ box: child, parent, row: parent.row + 1, left, width, merged: width < narrowest ? child.parts.length : 0 });
    }
    left += width;
  }
  return found.filter((cell) => !cell.merged || cell.width >= narrowest / 2);
}
