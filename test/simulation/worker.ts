/** A process that runs chunks of seeds for another one. */

import { runChunk } from './seeds.ts'
import { serveChunks } from './sharing.ts'

serveChunks(runChunk)
