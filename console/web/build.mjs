// Bundles src into dist: index.html and assets with the hash of their content in the name. The same sources give the same bytes.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";

const out = new URL("dist/", import.meta.url).pathname;
const src = new URL("src/", import.meta.url).pathname;

const { outputFiles } = await build({
  entryPoints: [src + "main.tsx", src + "style.css"], bundle: true, minify: true, write: false, outdir: out, target: "es2022",
  format: "esm", jsx: "automatic", jsxImportSource: "preact", charset: "utf8", legalComments: "none", logLevel: "warning",
});

for (const name of readdirSync(out)) if (name !== ".gitkeep") rmSync(out + name, { recursive: true });
mkdirSync(out + "assets");

const names = {};
const put = (name, text) => {
  const [stem, end] = name.split(".");
  const hashed = `${stem}-${createHash("sha256").update(text).digest("hex").slice(0, 10)}.${end}`;
  writeFileSync(out + "assets/" + hashed, text);
  names[name] = "/assets/" + hashed;
};
for (const f of outputFiles) put(f.path.split("/").pop(), f.contents);
put("icon.svg", readFileSync(src + "icon.svg"));

// Licences of what is in the bundle.
const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));
put("licences.txt", Object.keys(dependencies).sort().map((name) => {
  const dir = new URL(`node_modules/${name}/`, import.meta.url);
  return `${name} ${JSON.parse(readFileSync(new URL("package.json", dir))).version}\n\n${readFileSync(new URL("LICENSE", dir), "utf8")}`;
}).join("\n"));

const page = readFileSync(src + "index.html", "utf8").replace(/\{\{(.+?)\}\}/g, (_, name) => names[name]);
writeFileSync(out + "index.html", page);
