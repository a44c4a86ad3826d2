// The views, in the order of the page: answer → where → when → how → all of it.

import type { App } from "../app";
import { answers } from "./answers";
import { notes } from "./notes";

export interface View {
  /** Whether the answer holds what it shows. */
  shows(app: App): boolean;
  make(app: App): HTMLElement;
}

export const views: View[] = [answers, notes];
