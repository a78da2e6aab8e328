// Prints what the tab's modules make of what it gets as JSON on standard input.
import { readFileSync } from "node:fs";

const [, , module, name] = process.argv;
const found = await import(new URL(`../../js/stateless/${module}.js`, import.meta.url));
const results = JSON.parse(readFileSync(0, "utf8")).map((given) => found[name](...given) ?? null);
process.stdout.write(JSON.stringify(results));
