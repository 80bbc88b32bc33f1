// Bundles the page: node build.mjs NODE_MODULES OUT
import path from 'node:path';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const [modules, out] = process.argv.slice(2).map((given) => path.resolve(given));
const esbuild = createRequire(path.join(modules, 'x'))('esbuild');
// In their CommonJS form, default imports of CommonJS packages mean what they mean in Grafana's own build.
const commonjs = ['data', 'schema', 'ui'].map((name) => [`@grafana/${name}`, path.join(modules, `@grafana/${name}/dist/cjs/index.cjs`)]);

await esbuild.build({
  entryPoints: [fileURLToPath(new URL('page/main.jsx', import.meta.url))],
  outfile: path.join(out, 'main.js'),
  bundle: true,
  format: 'esm',
  jsx: 'automatic',
  alias: Object.fromEntries(commonjs),
  nodePaths: [modules],
  loader: { '.svg': 'dataurl', '.ttf': 'empty', '.woff': 'dataurl', '.woff2': 'dataurl' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  logLevel: 'error',
  logLimit: 8,
});
