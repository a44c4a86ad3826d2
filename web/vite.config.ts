import { defineConfig } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";

// One file without a hash in any name: the same source gives the same bytes.
export default defineConfig({
  base: "./",
  plugins: [viteSingleFile({ removeViteModuleLoader: true })],
  build: { target: "es2022", reportCompressedSize: false, chunkSizeWarningLimit: 2000 },
  worker: { format: "es" },
});
