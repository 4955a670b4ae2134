// grammar.mjs MODULES FILE...: parses PowerShell with tree-sitter's grammar.
// Prints FILE:LINE:COL: message for what it does not understand; exit 0 clean,
// 1 errors, 2 the grammar cannot be loaded.
import fs from 'node:fs';
import path from 'node:path';
import v8 from 'node:v8';
import { createRequire } from 'node:module';

// V8's optimiser needs 10 s for this grammar, its baseline compiler 0.2 s.
v8.setFlagsFromString('--liftoff-only');

const [modules, ...files] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), 'x.js'));

async function load() {
	const { Parser, Language } = require('web-tree-sitter');
	await Parser.init();
	const at = require.resolve('tree-sitter-powershell/package.json');
	const language = await Language.load(
		path.join(path.dirname(at), 'tree-sitter-powershell.wasm'));
	const parser = new Parser();
	parser.setLanguage(language);
	return parser;
}

function* errors(node) {
	if (!node.hasError)
		return;
	if (node.isMissing || node.isError)
		yield node;
	for (const child of node.children)
		yield* errors(child);
}

// Tags of user data are no PowerShell.
function plain(text) {
	return text.replace(/^<\/?powershell>$/gm, (tag) => ' '.repeat(tag.length)) + '\n';
}

let parser;
try {
	parser = await load();
} catch (e) {
	console.error(`grammar.mjs: the grammar cannot be loaded: ${e.message}`);
	process.exit(2);
}
let bad = 0;
for (const file of files) {
	const tree = parser.parse(plain(fs.readFileSync(file, 'utf8')));
	for (const node of errors(tree.rootNode)) {
		const at = node.startPosition;
		const what = node.isMissing ? `${node.type} is missing`
			: `not understood: ${JSON.stringify(node.text.slice(0, 40))}`;
		console.log(`${file}:${at.row + 1}:${at.column + 1}: ${what}`);
		bad++;
	}
	tree.delete();
}
process.exit(bad > 0 ? 1 : 0);
