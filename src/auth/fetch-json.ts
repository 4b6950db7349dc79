/** Asking an authorization server: bounded in time and size, and never following it elsewhere. */

import type { Clock } from '../clock.ts'
import { messageOf } from '../errors.ts'
import { CheckUnavailable } from './refusal.ts'

/** How long an authorization server may take to answer, in milliseconds. */
const TIMEOUT = 5000

/** The largest answer that is read, in bytes. */
const LARGEST = 1024 * 1024

/** What {@link fetchJson} sends. */
export interface JsonRequest {
  readonly method?: 'POST'
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/**
 * Fetches JSON.
 * @throws CheckUnavailable for anything but a 200 with JSON
 */
export async function fetchJson(url: string, clock: Clock, request: JsonRequest = {}): Promise<unknown> {
  const abort = new AbortController()
  const timer = clock.setTimer(() => abort.abort(new Error(`no answer within ${TIMEOUT} ms`)), TIMEOUT)
  try {
    const response = await fetch(url, {
      ...request,
      headers: { Accept: 'application/json', ...request.headers },
      // Keys and answers count because of where they come from.
      redirect: 'error',
      signal: abort.signal,
    })
    if (response.status !== 200) {
      response.body?.cancel().catch(() => {})
      throw new Error(`the answer was ${response.status}`)
    }
    return JSON.parse(await readText(response)) as unknown
  } catch (error) {
    throw new CheckUnavailable(`${url} could not be asked: ${reasonOf(error)}`)
  } finally {
    timer.cancel()
  }
}

async function readText(response: Response): Promise<string> {
  const reader = response.body?.getReader()
  if (reader === undefined) return ''
  const decoder = new TextDecoder()
  let text = ''
  let size = 0
  while (true) {
    const { done, value } = await reader.read()
    if (done) return text + decoder.decode()
    size += value.byteLength
    if (size > LARGEST) {
      reader.cancel().catch(() => {})
      throw new Error(`the answer is larger than ${LARGEST} bytes`)
    }
    text += decoder.decode(value, { stream: true })
  }
}

/** `fetch failed` says nothing; its cause does. What JSON.parse says quotes the answer, which may hold anything. */
function reasonOf(error: unknown): string {
  if (error instanceof SyntaxError) return 'the answer is not JSON'
  const { cause } = error as { cause?: unknown }
  if (cause === undefined) return messageOf(error)
  const { code } = cause as { code?: unknown }
  return typeof code === 'string' ? code : messageOf(cause)
}
