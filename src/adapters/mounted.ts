/** What every adapter takes: an app, or what one is made of. */

import { type App, httpApp } from '../http-app.ts'
import type { AppOptions, CreateServer } from '../types.ts'

/** The app that is given, or one made of a factory. */
export function appOf(given: App | CreateServer, options: AppOptions | undefined): App {
  return typeof given === 'function' ? httpApp(given, options) : given
}
