/** A process that runs commands of R1 for another one. */

import { serveChunks } from '../simulation/sharing.ts'
import { runChunk } from './r1.ts'

serveChunks(runChunk)
