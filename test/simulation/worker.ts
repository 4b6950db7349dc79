/** A process that runs chunks of seeds for another one. */

import { type Chunk, runChunk } from './seeds.ts'

process.on('message', (chunk: Chunk) => {
  void runChunk(chunk).then((result) => process.send?.(result))
})
