/** `npm run demo [-- map|restart] [--quick]`: one of the demos; each draws on a terminal, and in a pipe prints its result alone. */

// Whoever reads the output may stop reading; the demo goes on to its end, which puts away what it made.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})

const [name = 'map'] = process.argv.slice(2).filter((argument) => !argument.startsWith('-'))

switch (name) {
  case 'map':
    await import('./map.ts')
    break
  case 'restart':
    await import('./restart.ts')
    break
  default:
    process.stderr.write(`There is no demo ${name}: map (the default) or restart.\n`)
    process.exitCode = 2
}
