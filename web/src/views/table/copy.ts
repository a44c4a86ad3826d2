// The rows that are shown, as text for a spreadsheet, an issue or a paper.

import type { Model } from "../../model";
import { cellOf, rawValue, titleOf, type Column } from "./columns";
import { marksOf } from "./marks";
import { innermost, type Row, type Rows } from "./rows";

export interface Shown {
  row: Row;
  level: number;
  /** Its children follow. */
  expanded: boolean;
  name: string;
}

export interface Copied {
  model: Model;
  rows: Rows;
  columns: readonly Column[];
  shown: readonly Shown[];
  nameTitle: string;
}

/** Raw numbers, as `--format csv` writes them: the rows with summed = 1 add up to the totals. */
export function csv({ model, rows, columns, shown }: Copied): string {
  const head = ["layer", "copies", "summed", ...columns.map((column) => column.raw), "remarks"];
  const lines = shown.map(({ row, expanded }) => [
    row.label, row.members.length, expanded ? 0 : 1, ...columns.map((column) => rawValue(column, row, rows, model)), remarks(row, model, expanded, "; "),
  ]);
  return [head, ...lines].map((line) => line.map((value) => quoted(plain(value))).join(",")).join("\n");
}

function plain(value: string | number | null): string {
  if (typeof value !== "string") return value === null ? "" : String(value);
  // A spreadsheet would take it for a formula.
  return /^[=+\-@]/.test(value) ? `'${value}` : value;
}

const quoted = (text: string): string => (/[,"\r\n#]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

export function markdown(copied: Copied): string {
  const { columns } = copied;
  const line = (cells: string[]) => `| ${cells.map((text) => text.replace(/[\\|`*_<>[\]]/g, "\\$&").replace(/\s+/g, " ")).join(" | ")} |`;
  const rule = `| --- | ${columns.map((column) => (column.number ? "---:" : "---")).join(" | ")} |`;
  const rows = written(copied).map(({ name, cells, level }) => line([`${"\u00a0\u00a0".repeat(level)}${name}`, ...cells]).replace(/^\| (\u00a0*)/, "| $1"));
  return [line([copied.nameTitle, ...columns.map(titleOf)]), rule, ...rows].join("\n");
}

const SIGNS: Record<string, string> = {
  '"': "''", "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", $: "\\$", "&": "\\&", "#": "\\#", "%": "\\%", _: "\\_", "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "[": "{[}", "]": "{]}", "×": "$\\times$", "–": "--", "µ": "$\\mu$",
};
const tex = (text: string): string => text.replace(/["\\{}$&#%_~^<>|[\]×–µ]/g, (sign) => SIGNS[sign]!);

/** A table that needs no package. */
export function latex(copied: Copied): string {
  const { columns } = copied;
  const line = (cells: string[]) => `  ${cells.join(" & ")} \\\\`;
  return [
    `\\begin{tabular}{l${columns.map((column) => (column.number ? "r" : "l")).join("")}}`,
    "  \\hline",
    line([copied.nameTitle, ...columns.map(titleOf)].map(tex)),
    "  \\hline",
    ...written(copied).map(({ name, cells, level }) => line([`${"\\quad ".repeat(level)}${tex(name)}`, ...cells.map(tex)])),
    "  \\hline",
    "\\end{tabular}",
  ].join("\n");
}

function written(copied: Copied): { name: string; cells: string[]; level: number }[] {
  const { model, rows, columns, shown } = copied;
  return shown.map(({ row, level, expanded, name }) => {
    const said = remarks(row, model, expanded, ", ");
    const title = (row.fold > 1 ? `${name} × ${row.fold}` : name) + (said ? ` (${said})` : "");
    return { name: title, level, cells: columns.map((column) => cellOf(column, row, rows, model, expanded).text) };
  });
}

const remarks = (row: Row, model: Model, expanded: boolean, between: string): string => marksOf(row, model, expanded).map((mark) => mark.text).join(between);

/** The rows that sum to the totals, without the tree. */
export const flat = (rows: Rows): Row[] => [...innermost(rows.root)];
