/** Runs the command line as its own process, in a directory of its own. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { onTestFinished, vi } from 'vitest'

import { within } from '../support/deferred.ts'

/** As it is installed: the run of the tests begins with a build (vitest.config.ts). */
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

/** Starting takes most of a second, and many times that where a machine does a lot at once. */
const DEADLINE = 30_000

// Tests start several processes, one after the other.
vi.setConfig({ testTimeout: 90_000 })

/** Runs a command on a terminal of a given size: its output is our stdout, what we are told is typed. */
const ON_A_TERMINAL = `
import fcntl, os, pty, select, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', int(sys.argv[2]), int(sys.argv[1]), 0, 0))
    os.execv(sys.argv[3], sys.argv[3:])
open_ends = [terminal, 0]
while terminal in open_ends:
    for end in select.select(open_ends, [], [])[0]:
        try:
            data = os.read(end, 65536)
        except OSError:
            data = b''
        if not data:
            open_ends.remove(end)
        elif end == terminal:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            os.write(terminal, data)
status = os.waitpid(pid, 0)[1]
sys.exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
`

/** Whether commands can be run on a terminal here: Node has none to offer, Python's standard library does. */
export const hasTerminals: boolean = spawnSync('python3', ['-c', 'import pty, fcntl, termios']).status === 0

/** How a command is started. */
interface CliOptions {
  cwd?: string
  env?: Record<string, string>
  /** Runs it on a terminal of this size: stdout is then everything it shows, and stdin the keyboard. */
  terminal?: { columns: number; rows: number }
}

/** A running command. */
export interface RunningCli {
  readonly child: ChildProcess
  /** What it has written so far. */
  readonly stdout: string
  readonly stderr: string
  /** Waits until its output has a match. */
  until(stream: 'stdout' | 'stderr', pattern: RegExp): Promise<RegExpExecArray>
  /** Waits for its exit code; a signal that killed it is told by name. */
  exit(): Promise<number | NodeJS.Signals | null>
}

/** A directory with these files, removed at the end of the test. */
export function directoryWith(files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'sojourn-cli-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true })
    writeFileSync(join(directory, name), text)
  }
  return directory
}

/** Starts `sojourn` with these arguments; it is killed when the test ends before it. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const { PATH, HOME, TMPDIR } = process.env
  const command = [process.execPath, MAIN, ...args]
  const { terminal } = options
  const [file = '', ...rest] =
    terminal === undefined
      ? command
      : ['python3', '-c', ON_A_TERMINAL, String(terminal.columns), String(terminal.rows), ...command]
  const child = spawn(file, rest, {
    cwd: options.cwd,
    // Not the environment of whoever runs the tests: it may hold settings.
    env: { PATH, HOME, TMPDIR, ...options.env },
    stdio: [terminal === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  const waiting = new Set<() => void>()
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]?.setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
      for (const look of waiting) look()
    })
  }
  // 'close' comes after the last output, 'exit' may come before it.
  const exited = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.once('close', (code, signal) => resolve(code ?? signal))
  })
  onTestFinished(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return {
    child,
    get stdout() {
      return output.stdout
    },
    get stderr() {
      return output.stderr
    },
    until(stream, pattern) {
      const found = new Promise<RegExpExecArray>((resolve, reject) => {
        const look = (): void => {
          const match = pattern.exec(output[stream])
          if (match === null) return
          waiting.delete(look)
          resolve(match)
        }
        waiting.add(look)
        look()
        void exited.then((code) => reject(new Error(`it ended with ${code} first; stderr: ${output.stderr}`)))
      })
      return within(found, `${pattern} on ${stream}`, DEADLINE)
    },
    exit: () => within(exited, `the end of sojourn ${args.join(' ')}`, DEADLINE),
  }
}

/** Runs `sojourn` to its end. */
export async function runCli(
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<{ code: number | NodeJS.Signals | null; stdout: string; stderr: string }> {
  const cli = startCli(args, options)
  const code = await cli.exit()
  return { code, stdout: cli.stdout, stderr: cli.stderr }
}
