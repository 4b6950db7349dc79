/** What the author can know and ask of one instance: how long it lives, what is done when it sleeps, what keeps it awake. */

import type { Awaitable } from '../stream/event-log.ts'

/** Keeps an instance awake until it is released; harmless when repeated, or when the instance is gone. */
export class AwakeHold {
  #life: InstanceLife | undefined

  /** @internal */
  constructor(life: InstanceLife) {
    this.#life = life
  }

  /** Lets go. */
  release(): void {
    const life = this.#life
    this.#life = undefined
    life?.released(this)
  }

  [Symbol.dispose](): void {
    this.release()
  }
}

/** Called when an instance is about to sleep, or has been rebuilt. */
export type InstanceHook = () => Awaitable<void>

/** Whose instance it is. */
export interface LifeOwner {
  /** The instance was used, or is not needed for what it was any more: its last hold was released. */
  instanceUsed(): void
}

/** The life of one instance; everything is made on first use. */
export class InstanceLife {
  /** Whether the instance announced changes of its own (`list_changed`): a rebuilt one would not know of them. */
  changed = false
  /** @internal Called when the instance is let go; for what waits for it. */
  onEnded: (() => void) | undefined
  #abort: AbortController | undefined
  #endedBy: string | undefined
  #holds: Set<AwakeHold> | undefined
  #onSleep: InstanceHook[] | undefined
  #onWake: InstanceHook[] | undefined
  readonly #owner: LifeOwner

  constructor(owner: LifeOwner) {
    this.#owner = owner
  }

  /** Aborts when the instance is let go: with the reason `sleep`, or that of the session's end. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController()
      if (this.#endedBy !== undefined) this.#abort.abort(this.#endedBy)
    }
    return this.#abort.signal
  }

  /** Whether something keeps the instance awake. */
  get held(): boolean {
    return this.#holds !== undefined && this.#holds.size > 0
  }

  /** Whether the author said what is to be kept over a sleep: then nothing the instance did stands in its way. */
  get hasSleepHooks(): boolean {
    return this.#onSleep !== undefined
  }

  /** Keeps the instance awake. */
  hold(): AwakeHold {
    const hold = new AwakeHold(this)
    if (this.#endedBy === undefined) (this.#holds ??= new Set()).add(hold)
    return hold
  }

  /** @internal Called by {@link AwakeHold.release}, once. */
  released(hold: AwakeHold): void {
    if (this.#holds?.delete(hold) === true && this.#holds.size === 0) this.#owner.instanceUsed()
  }

  /** Registers what is done before the instance sleeps. */
  onSleep(hook: InstanceHook): void {
    ;(this.#onSleep ??= []).push(hook)
  }

  /** Registers what is done when the instance was rebuilt, before it gets its first request. */
  onWake(hook: InstanceHook): void {
    ;(this.#onWake ??= []).push(hook)
  }

  /** Runs the hooks of going to sleep, one after the other. Rejects as they do. */
  async runSleepHooks(): Promise<void> {
    for (const hook of this.#onSleep ?? []) await hook()
  }

  /** Runs the hooks of having been rebuilt, one after the other. Rejects as they do. */
  async runWakeHooks(): Promise<void> {
    for (const hook of this.#onWake ?? []) await hook()
  }

  /** The instance is let go. */
  end(reason: string): void {
    if (this.#endedBy !== undefined) return
    this.#endedBy = reason
    this.#holds = undefined
    this.#abort?.abort(reason)
    this.onEnded?.()
    this.onEnded = undefined
  }
}
