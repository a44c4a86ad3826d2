// The views, in the order of the page: answer → where → when → how → all of it.

import type { App } from "../app";
import { advice } from "./advice";
import { answers } from "./answers";
import { compare } from "./compare";
import { graph } from "./graph";
import { notes } from "./notes";
import { operators } from "./operators";
import { table } from "./table";
import { when } from "./when";
import { where } from "./where";

export interface View {
  /** Whether the answer holds what it shows. */
  shows(app: App): boolean;
  make(app: App): HTMLElement;
}

export const views: View[] = [compare, advice, answers, where, when, graph, table, operators, notes];
