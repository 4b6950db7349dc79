/** The sessions that have an instance, idlest first: who sleeps when, and who must when there are too many. */

import { DeadlineCall } from '../deadlines.ts'
import { type Linked, LinkedList } from '../linked-list.ts'
import type { Runtime } from './runtime.ts'
import type { Session } from './session.ts'

/** A place in the order of {@link AwakeSessions}; the session's own, so that moving it costs nothing. */
export class AwakePlace implements Linked<AwakePlace> {
  /** @internal Monotonic time at which the instance was last used, or looked at because it might sleep. */
  at: number
  /** How often the instance was used. */
  uses = 0
  /** @internal Whether its author's hooks run, after which it sleeps. */
  falling = false
  readonly session: Session
  /** @internal */ next: AwakePlace | undefined
  /** @internal */ previous: AwakePlace | undefined

  constructor(session: Session, at: number) {
    this.session = session
    this.at = at
  }
}

/** Puts instances to sleep that were not used for `sleepAfter`, and the idlest when more than `maxAwake` are awake. */
export class AwakeSessions {
  readonly #runtime: Pick<Runtime, 'clock' | 'deadlines' | 'log'>
  readonly #sleepAfter: number
  readonly #maxAwake: number
  readonly #sweep = new DeadlineCall(() => this.#sleepIdle())
  /** The idlest first. */
  readonly #places = new LinkedList<AwakePlace>()
  #size = 0
  /** How many of them are about to sleep. */
  #falling = 0
  #stopped = false

  constructor(
    runtime: Pick<Runtime, 'clock' | 'deadlines' | 'log'>,
    limits: { sleepAfter: number; maxAwake: number },
  ) {
    this.#runtime = runtime
    this.#sleepAfter = limits.sleepAfter
    this.#maxAwake = limits.maxAwake
  }

  /** How many are awake. */
  get size(): number {
    return this.#size
  }

  /** A session has an instance now. */
  add(session: Session): AwakePlace {
    const place = new AwakePlace(session, this.#runtime.clock.now())
    this.#places.append(place)
    this.#size += 1
    this.#arm()
    return place
  }

  /** An instance was used, or whatever kept it awake is over. */
  touch(place: AwakePlace): void {
    place.at = this.#runtime.clock.now()
    place.uses += 1
    if (this.#places.last !== place) {
      this.#places.remove(place)
      this.#places.append(place)
    }
    // What could not sleep while all were at work can now.
    if (this.#tooMany) this.#arm()
  }

  /** One that was about to sleep does not. Another may have to, but not at once: its hooks may fail as well. */
  stays(place: AwakePlace): void {
    this.#notFalling(place)
    if (this.#tooMany && !this.#stopped && !this.#sweep.armed)
      this.#runtime.deadlines.arm(this.#sweep, NEXT_TRY)
  }

  /** The session has no instance any more. */
  remove(place: AwakePlace): void {
    this.#places.remove(place)
    this.#notFalling(place)
    this.#size -= 1
    if (this.#size === 0) this.#runtime.deadlines.disarm(this.#sweep)
  }

  /** Memory is short: puts up to so many instances to sleep, the idlest first, of those that are not being used just now. Tells how many. */
  shed(most: number): number {
    if (this.#stopped) return 0
    const { clock } = this.#runtime
    const started = clock.now()
    let asleep = 0
    for (let left = Math.min(most, this.#size); left > 0 && clock.now() - started <= SLICE; left--) {
      const place = this.#places.first
      if (place === undefined || started - place.at < JUST_USED) break
      if (this.#sleepOrMove(place)) asleep += 1
    }
    return asleep
  }

  /** Nothing sleeps by itself from here on. */
  stop(): void {
    this.#stopped = true
    this.#runtime.deadlines.disarm(this.#sweep)
  }

  get #tooMany(): boolean {
    return this.#size - this.#falling > this.#maxAwake
  }

  #notFalling(place: AwakePlace): void {
    if (!place.falling) return
    place.falling = false
    this.#falling -= 1
  }

  #arm(): void {
    const { deadlines } = this.#runtime
    const idlest = this.#places.first
    if (this.#stopped || idlest === undefined) return
    if (this.#tooMany) deadlines.armAt(this.#sweep, this.#runtime.clock.now())
    else if (!this.#sweep.armed) deadlines.armAt(this.#sweep, idlest.at + this.#sleepAfter)
  }

  /** Looks at each place at most once: what cannot sleep now is as good as just used. */
  #sleepIdle(): void {
    const { clock } = this.#runtime
    const started = clock.now()
    for (let left = this.#size; left > 0; left--) {
      const place = this.#places.first
      if (place === undefined) return
      if (!this.#tooMany && place.at + this.#sleepAfter > clock.now()) break
      this.#sleepOrMove(place)
      if (clock.now() - started > SLICE) break
    }
    this.#armAgain(started)
  }

  /** Puts one to sleep where that can be, or is begun; else it goes to the end. Whether it sleeps, or will. */
  #sleepOrMove(place: AwakePlace): boolean {
    const outcome = place.session.sleep()
    if (outcome === 'asleep') return true
    if (outcome === 'falling-asleep') {
      place.falling = true
      this.#falling += 1
    }
    place.at = this.#runtime.clock.now()
    this.#places.remove(place)
    this.#places.append(place)
    return outcome === 'falling-asleep'
  }

  #armAgain(started: number): void {
    const { clock, deadlines } = this.#runtime
    const idlest = this.#places.first
    if (this.#stopped || idlest === undefined) return
    const due = idlest.at + this.#sleepAfter
    // Those at work make a limit wait: they are asked again when one of them is done.
    if (clock.now() - started > SLICE) deadlines.arm(this.#sweep, 0)
    else deadlines.armAt(this.#sweep, due)
  }
}

/** How long putting to sleep may go on before the event loop gets a turn, in milliseconds. */
const SLICE = 8

/** Whoever used an instance so lately would only wake it again, in milliseconds. */
const JUST_USED = 1_000

/** How long after one could not be put to sleep another is, where there are too many, in milliseconds. */
const NEXT_TRY = 1_000
