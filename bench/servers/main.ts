/** Entry of a server process: serves one row, and tells the driver its CPU and memory when asked. */

import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { bareListener } from './bare.ts'
import { NullServers } from './null-server.ts'
import { oursListener } from './ours.ts'
import { sdkListener } from './sdk.ts'
import { cpuMicros, serveDriver } from '../shared/ipc.ts'
import type { CpuReading, MemoryReading, Ready, ServerSpec } from '../shared/types.ts'

const spec = JSON.parse(process.argv[2] ?? '') as ServerSpec
const cpu = (): CpuReading => ({ cpuMicros: cpuMicros() })

if (spec.kind === 'null') {
  const servers = await NullServers.load(spec.sdk)
  serveDriver(
    {
      cpu,
      memory: () => memory(undefined),
      open: (argument: { count: number }) => servers.open(argument.count),
      run: (argument: { ms: number; sessions: number }) => servers.run(argument),
    },
    { port: 0 } satisfies Ready,
  )
} else {
  const server = createServer(await listener())
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  serveDriver({ cpu, memory: () => memory(server) }, {
    port: (server.address() as AddressInfo).port,
  } satisfies Ready)
}

async function listener(): Promise<RequestListener> {
  switch (spec.kind) {
    case 'sdk':
      return await sdkListener(spec.sdk, spec.mode)
    case 'ours':
      return await oursListener(spec)
    default:
      return bareListener()
  }
}

/** Memory once the clients are gone and garbage is collected; needs `--expose-gc`. */
async function memory(server: Server | undefined): Promise<MemoryReading> {
  const collect = (globalThis as { gc?: () => void }).gc
  if (collect === undefined) throw new Error('memory needs --expose-gc')
  while (server !== undefined && (await openConnections(server)) > 0) {
    await new Promise((resolve) => {
      setTimeout(resolve, 10)
    })
  }
  // Several times, with turns between: finalizers and weak references let go of more each time.
  for (let pass = 0; pass < 5; pass += 1) {
    collect()
    await new Promise(setImmediate)
  }
  const { heapUsed, rss } = process.memoryUsage()
  return { heapUsed, rss }
}

function openConnections(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
  })
}
