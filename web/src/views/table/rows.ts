// The rows of the table, as src/torchgauge/render/tree/parts.py makes them for the terminal: modules,
// bare parameters, and what a container does itself. The rows without children sum to the totals.

import type { CostName, Model, Part } from "../../model";
import type { Parameter } from "../../types";

export const FUNCTIONAL = "(functional)";
/** A container whose own work takes this share of the step has a row for it. */
const LEAST_BUSY = 0.02;
const PARAMETER_FIELDS: ReadonlySet<CostName> = new Set(["params", "trainable_params", "param_bytes"]);
const OWNED_FIELDS: ReadonlySet<CostName> = new Set([...PARAMETER_FIELDS, "gradient_bytes"]);

export interface Row {
  kind: "module" | "parameter" | "work";
  key: string;
  name: string;
  /** The path for people: layers.0–11.fc1 */
  label: string;
  type: string;
  /** Equal modules that the row stands for, the first one first. */
  members: Part[];
  parameter: Parameter | null;
  /** How many equal siblings are folded here. */
  fold: number;
  parent: Row | null;
  children: Row[];
  level: number;
}

export interface Choice {
  /** Equal neighbours share one row. */
  fold: boolean;
  /** Fields that are shown: work of a container has a row where one of them is not zero. */
  fields: readonly CostName[];
}

export class Rows {
  readonly root: Row;
  /** Which row stands for a module, by its index. */
  readonly ofModule = new Map<number, Row>();
  private readonly busy: ReadonlySet<string>;
  private readonly work: CostName[];

  constructor(private readonly model: Model, private readonly choice: Choice) {
    this.busy = busyTypes(model);
    this.work = choice.fields.filter((field) => !OWNED_FIELDS.has(field) && !["time_ms", "backward_time_ms", "peak_allocated_bytes"].includes(field));
    this.root = this.module([model.root], 1, null, "", model.root.name, 0);
  }

  /** What a row costs, everything below and all copies included. */
  cost(row: Row, field: CostName): number {
    if (row.kind === "parameter") return parameterCost(row, field);
    if (row.kind === "work") {
      if (OWNED_FIELDS.has(field)) return 0;
      return combined(field, row.members.map((part) => this.model.own(part, field)));
    }
    return combined(field, row.members.map((part) => this.model.total(part, field)));
  }

  /** The size of parameters that are all counted in another row, else 0. */
  elsewhere(row: Row, field: CostName): number {
    if (!PARAMETER_FIELDS.has(field) || this.cost(row, "params")) return 0;
    if (row.parameter?.shared_with != null) return parameterSize(row.parameter, field) * row.members.length;
    if (row.kind !== "module") return 0;
    return (row.members[0]!.module[field as "params"]) * row.members.length;
  }

  private module(members: Part[], fold: number, parent: Row | null, label: string, name: string, level: number): Row {
    const first = members[0]!;
    const row: Row = {
      kind: "module", key: first.path, name, label: label || name, type: first.module.type, members, parameter: null, fold, parent, children: [], level,
    };
    for (const part of members) this.ofModule.set(part.index, row);
    if (!first.children.length) return row;
    row.children.push(...this.parameters(row, label));
    for (let index = 0; index < first.children.length; index += 1) {
      const child = first.children[index]!;
      const width = this.choice.fold ? child.fold : 1;
      const below = members.flatMap((part) => part.children.slice(index, index + width));
      const title = width > 1 ? rangeName(child.name, first.children[index + width - 1]!.name) : child.name;
      row.children.push(this.module(below, width, row, joined(label, title), title, level + 1));
      index += width - 1;
    }
    row.children.push(...this.functional(row, label));
    return this.merged(row);
  }

  /** A list whose only row is a fold is one row: layers.0–11 */
  private merged(row: Row): Row {
    const [only] = row.children;
    if (row.parent === null || row.children.length !== 1 || only!.fold === 1 || row.members[0]!.module.has_forward) return row;
    for (const part of row.members) this.ofModule.set(part.index, only!);
    only!.name = `${row.name}.${only!.name}`;
    only!.parent = row.parent;
    raise(only!);
    return only!;
  }

  private parameters(row: Row, label: string): Row[] {
    const found = row.members[0]!.module.own_parameters.filter((item) => !item.is_buffer);
    return found.map((item) => {
      const name = item.name.slice(item.name.lastIndexOf(".") + 1);
      return {
        kind: "parameter", key: `${item.name} (parameter)`, name, label: joined(label, name), type: "Parameter", members: row.members,
        parameter: item, fold: 1, parent: row, children: [], level: row.level + 1,
      };
    });
  }

  private functional(row: Row, label: string): Row[] {
    const first = row.members[0]!;
    if (!this.busy.has(first.module.type) && !this.work.some((field) => this.model.own(first, field))) return [];
    return [{
      kind: "work", key: `${first.path} ${FUNCTIONAL}`, name: FUNCTIONAL, label: `${label || row.name} ${FUNCTIONAL}`, type: "", members: row.members,
      parameter: null, fold: 1, parent: row, children: [], level: row.level + 1,
    }];
  }
}

export function* innermost(row: Row): Generator<Row> {
  if (!row.children.length) yield row;
  for (const child of row.children) yield* innermost(child);
}

function raise(row: Row): void {
  row.level -= 1;
  row.children.forEach(raise);
}

function combined(field: CostName, values: number[]): number {
  return field === "peak_allocated_bytes" ? Math.max(...values) : values.reduce((sum, value) => sum + value, 0);
}

function parameterSize(item: Parameter, field: CostName): number {
  if (field === "param_bytes") return item.stored_bytes;
  return field === "params" || item.trainable ? item.numel : 0;
}

function parameterCost(row: Row, field: CostName): number {
  const item = row.parameter!;
  return PARAMETER_FIELDS.has(field) && item.shared_with === null ? parameterSize(item, field) * row.members.length : 0;
}

/** Types of containers that take part of the step by themselves; by type, so that equal blocks stay equal. */
function busyTypes(model: Model): Set<string> {
  const { time } = model.report;
  if (!time) return new Set();
  const spent = new Map<string, number>();
  for (const part of model.parts) {
    if (part.children.length) spent.set(part.module.type, (spent.get(part.module.type) ?? 0) + model.own(part, "time_ms"));
  }
  return new Set([...spent].filter(([, value]) => value >= LEAST_BUSY * time.total_ms).map(([type]) => type));
}

/** rangeName("block_0", "block_11") is "block_0–11". */
export function rangeName(first: string, last: string): string {
  const stem = first.replace(/\d+$/, "");
  return `${first}–${last.startsWith(stem) ? last.slice(stem.length) : last}`;
}

const joined = (label: string, name: string): string => (label ? `${label}.${name}` : name);
