// The data of a page: the JSON of torchgauge's answers, as src/torchgauge/web/page.py embeds it.

import type { Workbench } from "./live/workbench";

export type Scenario = Record<string, unknown> & {
  mode: string;
  device: string;
  precision: string;
  optimizer: string | null;
};

export interface NamedValue {
  name: string;
  shape?: number[];
  dtype?: string;
  nbytes?: number;
  text?: string;
  batch_dims?: [number, number][];
}

export interface Call {
  inputs: NamedValue[];
  outputs: NamedValue[];
  forward_macs: number;
  backward_flops: number;
  saved_activation_bytes: number;
  peak_allocated_bytes: number;
  elementwise_flops: number;
  output_bytes: number;
  parent: string | null;
  recompute: boolean;
  completed: boolean;
  time_ms?: number;
  backward_time_ms?: number;
}

export interface Parameter {
  name: string;
  shape: number[];
  dtype: string;
  numel: number;
  stored_bytes: number;
  trainable: boolean;
  is_buffer: boolean;
  shared_with: string | null;
  is_lazy: boolean;
}

export interface ModuleReport {
  path: string;
  type: string;
  depth: number;
  params: number;
  trainable_params: number;
  param_bytes: number;
  shared_with: string | null;
  calls: Call[];
  own_params: number;
  own_gradient_bytes: number;
  own_parameters: Parameter[];
  buffers: number;
  buffer_bytes: number;
  has_forward: boolean;
}

export interface AliveTensor {
  bytes: number;
  role: Role;
  label: string;
  module: string;
  shape: number[] | null;
  dtype: string;
  code: string;
}

/** src/torchgauge/facts/fit.py */
export type Verdict = "fits" | "fits-fragmented" | "too-close-to-call" | "does-not-fit";

export interface Memory {
  input_bytes: number;
  parameter_bytes: number;
  gradient_bytes: number;
  optimizer_bytes: number;
  saved_activation_bytes: number;
  buffer_bytes: number;
  output_bytes: number;
  peak_allocated_bytes: number;
  peak_at: { phase: string; module: string; op: string };
  at_peak: Partial<Record<Role, number>>;
  timeline: { op: number; phase: string; live_bytes: number }[];
  alive_at_peak?: AliveTensor[];
  intervals?: Record<string, [number, number]>;
  peak_reserved_bytes?: number;
  context_bytes?: number;
  device_bytes?: number;
  minimum_bytes?: number;
  capacity_bytes?: number;
  fits?: boolean;
  verdict?: Verdict;
}

export interface StepTime {
  forward_ms: number;
  loss_ms: number;
  backward_ms: number;
  optimizer_ms: number;
  total_ms: number;
  outside_ms: number;
  between_ops_ms: number;
  ops: { name: string; kernel: string; phase: string; calls: number; time_ms: number }[];
  measured: null | {
    device: string; repetitions: number; warm_up: number; confidence: number;
    intervals: Record<string, { low_ms: number; high_ms: number }>;
  };
  bound_by?: Record<"compute" | "memory" | "launch", number>;
  predicted?: {
    device: string;
    error: number;
    samples_per_second: number | null;
    flops_share: number | null;
    most_joules: number | null;
    bottlenecks: {
      op: string; module: string; phase: string; calls: number;
      time_ms: number; roof_ms: number; gain_ms: number; bound_by: string;
    }[];
  };
}

export interface Failure {
  path: string;
  module_type: string;
  inputs: NamedValue[];
  error_type: string;
  error: string;
  phase: string;
  hint: string;
}

export interface Report {
  schema_version: number;
  tool: { name: string; version: string };
  torch_version: string;
  execution: "simulated" | "real";
  model: { name: string; spec: string | null };
  scenario: Scenario;
  inputs: NamedValue[];
  outputs: NamedValue[];
  totals: {
    params: number; trainable_params: number; non_trainable_params: number; param_bytes: number;
    buffers: number; buffer_bytes: number; forward_macs: number; forward_flops: number;
    backward_flops: number; total_flops: number; optimizer_flops: number; elementwise_flops: number;
  };
  memory: Memory | null;
  time?: StepTime;
  modules: ModuleReport[];
  not_counted: { op: string; calls: number; why: string }[];
  assumptions: string[];
  guesses?: string[];
  warnings: string[];
  batch_size: number | null;
  failure: Failure | null;
  /** The one best change, where one was looked for and found. */
  suggestion?: Suggestion | null;
}

/** src/torchgauge/facts/loop/comparison.py: a figure before and after a change. */
export interface Shift {
  name: string;
  before: number | null;
  after: number | null;
}

/** src/torchgauge/facts/loop/advice.py */
export interface Suggestion {
  rule: string;
  text: string;
  where: string[];
  code: string;
  why: string;
  accuracy: "none" | "small" | "retrain";
  cost: string;
  source: string;
  figures: Shift[];
  proof: string[];
  snippet: string[];
  scenario: Record<string, unknown>;
  /** Where patches were asked for: the change in the user's source. */
  patched?: Patch | null;
  /** Where the user's data were given. */
  check?: Checked | null;
}

export interface Patch {
  diff: string;
  proof: string[];
  why_not: string;
}

export interface Checked {
  before: number;
  after: number | null;
  note: string;
}

export interface Advice {
  faults: { rule: string; text: string; where: string[]; code: string; why: string; remedy: string; patched?: Patch | null }[];
  suggestions: Suggestion[];
  goal: null | { text: string; figure: string; most: number; device: string | null };
  path: { text: string; rule: string; figures: Shift[]; reached: boolean; change?: Suggestion }[];
  reached: boolean | null;
  nearest: string;
  front?: { changes: string[]; accuracy: Suggestion["accuracy"]; figures: Shift[] }[];
  /** Names of the two figures that the front weighs. */
  front_axes?: string[];
  data_check?: null | { metric: string; samples: number };
  quiet: { rule: string; why: string }[];
  traces: number;
}

/** Advice, and what of its sentences has another text in Chinese. */
export interface Advised {
  advice: Advice;
  chinese: Record<string, string>;
}

export type Role =
  | "parameter" | "buffer" | "gradient" | "optimizer_state" | "input" | "saved_activation"
  | "output" | "temporary" | "workspace" | "rounding";

/** src/torchgauge/facts/pictures/step.py: columns; texts are indices into `texts`. */
export interface Step {
  texts: string[];
  operators: {
    op: number[]; name: number[]; module: number[]; phase: number[]; recompute: boolean[];
    inputs: number[]; outputs: number[]; flops: number[]; elementwise_flops: number[];
    nbytes: number[]; time_ms: number[]; start_ms: number[]; roof_ms: number[];
    kind: number[]; bound_by: number[];
  };
  memory: { op: number[]; phase: number[]; roles: Partial<Record<Role, number[]>> };
  flow: {
    calls: number[]; parents: number[]; completed: boolean[];
    node_call: number[]; node_label: number[]; node_op: number[];
    edge_from: number[]; edge_to: number[]; edge_shape: number[];
  };
  roof: null | { device: string; flops_per_second: number; bytes_per_second: number };
}

/** By module, in the order of `report.modules`: what each owns and does itself. Columns sum to the totals. */
export interface OwnCosts {
  params: number[]; trainable_params: number[]; param_bytes: number[]; macs: number[];
  backward_flops: number[]; elementwise_flops: number[]; activation_bytes: number[];
  saved_activation_bytes: number[]; gradient_bytes: number[]; peak_allocated_bytes: number[];
  time_ms: number[]; backward_time_ms: number[];
}

export interface Answer {
  report: Report;
  /** null where the report was loaded or measured: it has no trace. */
  step: Step | null;
  own: OwnCosts;
  /** Equal neighbours, as the terminal folds them: indices of sibling modules, the first stands for all. */
  folds: number[][];
  /** The same step on further devices, the scenario's own first. */
  devices: {
    device: string; device_bytes: number; capacity_bytes: number; low_bytes: number;
    high_bytes: number; verdict: Verdict; total_ms: number | null;
  }[];
  /** Sentences of the report in Chinese. */
  chinese: Record<string, string>;
}

/** `Comparison.layers`: of a layer that is there only once, with what is below it and so, too. */
export interface LayerDifference {
  kind: "added" | "removed" | "changed" | "renamed";
  path_before: string | null;
  path_after: string | null;
  type_before: string | null;
  type_after: string | null;
  before: Partial<Record<keyof OwnCosts, number>>;
  after: Partial<Record<keyof OwnCosts, number>>;
}

export interface PageData {
  version: 1;
  /** One answer, or two to compare: the first is the baseline. */
  answers: Answer[];
  language: "en" | "zh" | null;
  /** Set by the server of `torchgauge ui`. */
  live: boolean;
  /** Of two reports: which layer is which and what differs, as torchgauge.compare says it. */
  layers?: LayerDifference[];
  advice?: Advised;
  /** What a live page can change. */
  workbench?: Workbench;
  /** The page follows the files of a model: its answers come as they are saved (live/follow.ts). */
  watch?: { spec: string };
}
