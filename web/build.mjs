// dist/index.html → the template that torchgauge fills: scripts at the end, and a policy that
// names them by their hash, so that no other script runs in the page.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";

const TARGET = "../src/torchgauge/web/app.html";
const LIMIT = 1_500_000;

const built = readFileSync("dist/index.html", "utf8");
const scripts = [];
const without = built.replace(/<script\b([^>]*)>([\s\S]*?)<\/script>\s*/g, (whole, attributes, text) => {
  if (attributes.includes("application/json")) return whole;
  scripts.push(text.trim().replaceAll("\r\n", "\n"));
  return "";
});
if (scripts.length !== 1) throw new Error(`${scripts.length} scripts, expected one`);
const [script] = scripts;
if (/<\/script|<!--/i.test(script)) throw new Error("the script would end early");
const hash = createHash("sha256").update(script).digest("base64");
const policy = [
  "default-src 'none'",
  `script-src 'sha256-${hash}'`,
  "style-src 'unsafe-inline'",
  "img-src data: blob:",
  "worker-src blob:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");
const page = without
  .replace("<!--policy-->", () => `<meta http-equiv="Content-Security-Policy" content="${policy}">`)
  .replace("</body>", () => `<script type="module">${script}</script>\n</body>`);
if (page.length > LIMIT) throw new Error(`${page.length} bytes, at most ${LIMIT}`);
writeFileSync(TARGET, page);
console.log(`${TARGET}: ${page.length} bytes`);
