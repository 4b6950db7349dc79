/** Entry of a server process: serves one row, and tells the driver its CPU and memory when asked. */

import { serveBare } from './bare.ts'
import { NullServers } from './null-server.ts'
import { serveOurs } from './ours.ts'
import { serveFastMcp, serveMcpLite, serveMcpProxy, serveMcpUse, serveTmcp } from './frameworks.ts'
import {
  serveHonoMcp,
  serveMcpHandler,
  serveSdk,
  serveSdkExpress,
  serveSdkFastify,
  serveSdkHono,
} from './sdk.ts'
import type { Served } from './served.ts'
import { cpuMicros, serveDriver } from '../shared/ipc.ts'
import type { CpuReading, MemoryReading, Ready, ServerKind, ServerSpec } from '../shared/types.ts'

const SERVE: Readonly<Partial<Record<ServerKind, (spec: ServerSpec) => Promise<Served>>>> = {
  bare: serveBare,
  ours: serveOurs,
  sdk: serveSdk,
  'sdk-express': serveSdkExpress,
  'sdk-fastify': serveSdkFastify,
  'sdk-hono': serveSdkHono,
  'create-mcp-handler': serveMcpHandler,
  'hono-mcp': serveHonoMcp,
  fastmcp: serveFastMcp,
  'mcp-proxy': serveMcpProxy,
  tmcp: serveTmcp,
  'mcp-lite': serveMcpLite,
  'mcp-use': serveMcpUse,
}

const spec = JSON.parse(process.argv[2] ?? '') as ServerSpec
const cpu = (): CpuReading => ({ cpuMicros: cpuMicros() })

if (spec.kind === 'null') {
  const servers = await NullServers.load(spec.sdk, spec.tools)
  serveDriver(
    {
      cpu,
      memory: () => memory(),
      open: (argument: { count: number }) => servers.open(argument.count),
      run: (argument: { ms: number; sessions: number }) => servers.run(argument),
    },
    { port: 0 } satisfies Ready,
  )
} else {
  const served = await SERVE[spec.kind]?.(spec)
  if (served === undefined) throw new Error(`nothing serves ${spec.kind}`)
  serveDriver(
    {
      cpu,
      memory: async (argument?: { sockets: number }) => {
        await sockets(argument?.sockets ?? 0)
        await served.settled?.()
        return await memory()
      },
      broadcast: () => served.broadcast?.(),
      settle: () => served.settled?.(),
      gone: () => sockets(0),
    },
    { port: served.port } satisfies Ready,
  )
}

/** Waits until so many client connections are open, or fewer. */
async function sockets(count: number): Promise<void> {
  while (openSockets() > count) {
    await new Promise((resolve) => {
      setTimeout(resolve, 10)
    })
  }
}

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'TCPSocketWrap').length
}

/** Memory once garbage is collected; needs `--expose-gc`. */
async function memory(): Promise<MemoryReading> {
  const collect = (globalThis as { gc?: () => void }).gc
  if (collect === undefined) throw new Error('memory needs --expose-gc')
  // Several times, with turns between: finalizers and weak references let go of more each time.
  for (let pass = 0; pass < 5; pass += 1) {
    collect()
    await new Promise(setImmediate)
  }
  const { heapUsed, rss } = process.memoryUsage()
  return { heapUsed, rss, sockets: openSockets() }
}
