/** Token files and what is sent as a bearer token: no error shows a token, and nobody gets in with anything else. */

import { authenticateBearer, parseBearerTokens } from '../../../src/http/bearer-tokens.ts'
import { must, utf8, type Target } from '../target.ts'

/** The text of a token file, and behind the last line feed the `Authorization` of someone who wants in. */
export const tokens: Target = {
  name: 'tokens',
  about: 'the text of token files, and Authorization against them',
  seeds: [
    '{"s3cr3t-t0ken":{"client":"c","issuer":"i","subject":"s","scopes":["a"]}}\nBearer s3cr3t-t0ken',
    '{"a":{"client":"c"},"b":{"client":"d","scopes":[]}}\nbearer  b==',
    '{"__proto__":{"client":"c"}}\nBearer __proto__',
  ],
  words: ['"client":', '"issuer":', '"subject":', '"scopes":[', 's3cr3t-t0ken', 'Bearer ', 'Basic ', '"x":{"client":"c"},', '=='], // prettier-ignore
  longest: 2048,
  deadline: 1000,
  open: () => ({
    async run(input) {
      const text = utf8(input)
      const cut = text.lastIndexOf('\n')
      const file = cut < 0 ? text : text.slice(0, cut)
      let known: ReturnType<typeof parseBearerTokens>
      try {
        known = parseBearerTokens(file, 'tokens.json')
      } catch (thrown) {
        must(thrown instanceof RangeError, `${String(thrown)} instead of a RangeError`)
        must(!thrown.message.includes('s3cr3t-t0ken'), 'an error shows a token')
        must(thrown.message.length < 1000, 'an error is endless')
        return
      }
      must(known.size > 0, 'a file without tokens lets nobody in, silently')
      const members = JSON.parse(file) as Record<string, unknown>
      const all = Object.keys(members)
      must(known.size === all.length, `${all.length} tokens are read as ${known.size}`)
      const authenticate = authenticateBearer(known)
      const sent = cut < 0 ? '' : text.slice(cut + 1)
      // What HTTP cannot carry does not arrive.
      if (!/^[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?$/.test(sent)) return
      const result = await authenticate(
        new Request('http://localhost/mcp', { headers: { authorization: sent } }),
      )
      must(result !== undefined, 'somebody is let in as nobody')
      const [scheme = '', token = ''] = sent.split(/ +/)
      const right = scheme.toLowerCase() === 'bearer' && all.includes(token) && sent.split(/ +/).length === 2
      must(
        right === !(result instanceof Response),
        right ? 'a token is refused' : 'somebody gets in without a token',
      )
      if (!(result instanceof Response)) must(result.token === token, 'a token gets the rights of another')
      else
        must(
          result.status === 401 && result.headers.has('www-authenticate'),
          'a refusal without its challenge',
        )
    },
  }),
}
