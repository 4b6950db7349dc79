/** docs/api.md, made of the declarations and doc comments of what the package exports. */

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

/** Where the page stands. */
export const apiPage = fileURLToPath(new URL('../docs/api.md', import.meta.url))

/** What users import, and the module behind it. */
const entries = {
  sojourn: 'src/index.ts',
  'sojourn/express': 'src/adapters/express.ts',
  'sojourn/fastify': 'src/adapters/fastify.ts',
  'sojourn/hono': 'src/adapters/hono.ts',
  'sojourn/auth': 'src/auth/index.ts',
  'sojourn/testing': 'src/testing.ts',
} as const

const root = new URL('../', import.meta.url)

/** The text of the page. */
export function renderApi(): string {
  const sections = Object.entries(entries).map(([name, path]) => {
    const declarations = exportsOf(new URL(path, root))
    const texts = [...declarations].map(([each, text]) => `### \`${each}\`\n\n~~~ts\n${text}\n~~~\n`)
    return `## ${name}\n\n${texts.join('\n')}`
  })
  return `<!-- Made by \`npm run docs\` from the source. Change that, not this page. -->

# API

Every export, as it is declared. The guides say what to do with it, [the settings reference](settings.md) what the options are called elsewhere.

${sections.join('\n')}`
}

/** The exported declarations of a module, by name, in the order of the module; what it exports of others is looked up there. */
function exportsOf(module: URL): Map<string, string> {
  const source = declarationsOf(module)
  const found = new Map<string, string>()
  for (const statement of source.statements) {
    if (ts.isExportDeclaration(statement)) {
      const { moduleSpecifier, exportClause } = statement
      if (moduleSpecifier === undefined || !ts.isStringLiteral(moduleSpecifier)) continue
      const others = exportsOf(new URL(moduleSpecifier.text, module))
      const names =
        exportClause !== undefined && ts.isNamedExports(exportClause)
          ? exportClause.elements.map(({ name }) => name.text)
          : [...others.keys()]
      for (const name of names) found.set(name, others.get(name) ?? '')
    } else if (isExported(statement)) {
      const text = ownText(statement, source)
      // Overloads follow each other under one name.
      for (const name of namesOf(statement))
        found.set(name, [found.get(name), text].filter(Boolean).join('\n'))
    }
  }
  return found
}

/** A declaration with its own comment: not the one of the file, which stands before the first, and without a word on what is private. */
function ownText(statement: ts.Statement, source: ts.SourceFile): string {
  return statement
    .getFullText(source)
    .trim()
    .replace(/^\/\*\*[^\n]*\*\/\n(?=\/\*\*)/, '')
    .replace(/^export (declare )?/gm, '')
    .replace(/^ *#private;\n/gm, '')
}

/** A module as its users see it: without bodies, private members and what is marked as internal. */
function declarationsOf(module: URL): ts.SourceFile {
  const fileName = fileURLToPath(module)
  const { outputText } = ts.transpileDeclaration(readFileSync(module, 'utf8'), {
    fileName,
    compilerOptions: { stripInternal: true, target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.ESNext },
  })
  return ts.createSourceFile(fileName, outputText, ts.ScriptTarget.ESNext, true)
}

function isExported(statement: ts.Statement): boolean {
  if (!ts.canHaveModifiers(statement)) return false
  return ts.getModifiers(statement)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) === true
}

function namesOf(statement: ts.Statement): string[] {
  if (ts.isVariableStatement(statement)) {
    return statement.declarationList.declarations.map(({ name }) => name.getText())
  }
  const { name } = statement as ts.Statement & { readonly name?: ts.Node }
  return name === undefined ? [] : [name.getText()]
}
