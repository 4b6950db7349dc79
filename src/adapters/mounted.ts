/** What every adapter takes: an app, or what one is made of. */

import { type App, httpApp } from '../http-app.ts'
import { parseTarget } from '../http/headers.ts'
import type { AppOptions, CreateServer } from '../types.ts'

/** The app that is given, or one made of a factory. */
export function appOf(given: App | CreateServer, options: AppOptions | undefined): App {
  return typeof given === 'function' ? httpApp(given, options) : given
}

/** Whether a request target is one of the app's beside its endpoint. */
export function isWellKnown(app: App, target: string | undefined): boolean {
  const path = parseTarget(target ?? '')?.path
  return path !== undefined && app.wellKnownPaths.includes(path)
}
