/** Many deadlines on one timer: a list per duration, a heap for the irregular, armed for the earliest head. */

import type { Clock, Timer } from './clock.ts'

/** More distinct durations than this and the rest go to the heap: lists are O(1) but each costs a look per arming. */
const MOST_LISTS = 64

/** How long waiting input may be read before what is due is handled, in milliseconds: at least and at most. */
const LEAST_WAIT = 5
const LONGEST_WAIT = 200

/** Work at expiry goes on for this long, in milliseconds, before the event loop gets a turn. */
const SLICE = 8

interface DeadlineList {
  readonly duration: number
  head: Deadline | undefined
  tail: Deadline | undefined
}

/**
 * Something that is due once, at a time that can be set again and again. Setting one costs O(1) and makes no timer.
 * Fields are the queue's own; use {@link Deadlines}.
 */
export abstract class Deadline {
  /** When it is due, by the clock's `now()`; meaningless while not armed. */
  due = 0
  /** @internal */ list: DeadlineList | undefined
  /** @internal */ next: Deadline | undefined
  /** @internal */ previous: Deadline | undefined
  /** @internal */ heapIndex = -1

  /** Whether what waits in sockets is read before it comes due, because a request there would put it off. */
  get yieldsToInput(): boolean {
    return false
  }

  /** Called once, when it is due; it is disarmed by then. */
  abstract onDue(): void

  /** Whether it is going to come due. */
  get armed(): boolean {
    return this.list !== undefined || this.heapIndex >= 0
  }
}

/** A deadline that calls a function, for where no object of its own is at hand. */
export class DeadlineCall extends Deadline {
  readonly #call: () => void

  constructor(call: () => void) {
    super()
    this.#call = call
  }

  override onDue(): void {
    this.#call()
  }
}

/** All the deadlines of one manager. Never early; late by the platform's timer and by what else the event loop does. */
export class Deadlines {
  readonly #clock: Clock
  readonly #lists = new Map<number, DeadlineList>()
  readonly #heap: Deadline[] = []
  #armedCount = 0
  #timer: Timer | undefined
  #timerDue = Number.POSITIVE_INFINITY
  #waitingForInput = false
  readonly #onThrow: (thrown: unknown) => void

  constructor(clock: Clock, onThrow: (thrown: unknown) => void) {
    this.#clock = clock
    this.#onThrow = onThrow
  }

  /** How many deadlines are armed. */
  get size(): number {
    return this.#armedCount
  }

  /** Makes `deadline` due `duration` milliseconds from now, whatever it was before. `Infinity` only disarms it. */
  arm(deadline: Deadline, duration: number): void {
    this.disarm(deadline)
    if (duration === Number.POSITIVE_INFINITY) return
    deadline.due = this.#clock.now() + duration
    const list = this.#listOf(duration)
    if (list === undefined) this.#heapPush(deadline)
    else append(list, deadline)
    this.#armedCount += 1
    if (deadline.due < this.#timerDue) this.#schedule(deadline.due)
  }

  /** Makes `deadline` due at a time by the clock's `now()`. */
  armAt(deadline: Deadline, due: number): void {
    this.disarm(deadline)
    if (due === Number.POSITIVE_INFINITY) return
    deadline.due = due
    this.#heapPush(deadline)
    this.#armedCount += 1
    if (due < this.#timerDue) this.#schedule(due)
  }

  /** Forgets `deadline`; harmless when it is not armed. */
  disarm(deadline: Deadline): void {
    if (deadline.list !== undefined) unlink(deadline.list, deadline)
    else if (deadline.heapIndex >= 0) this.#heapRemove(deadline)
    else return
    this.#armedCount -= 1
    // The timer stays for what is left: arming again is dearer than one empty wake-up. With nothing left there must be no timer.
    if (this.#armedCount === 0) this.#cancelTimer()
  }

  #listOf(duration: number): DeadlineList | undefined {
    let list = this.#lists.get(duration)
    if (list === undefined) {
      if (this.#lists.size >= MOST_LISTS) return undefined
      list = { duration, head: undefined, tail: undefined }
      this.#lists.set(duration, list)
    }
    return list
  }

  #schedule(due: number): void {
    if (this.#waitingForInput) return
    this.#timer?.cancel()
    this.#timerDue = due
    this.#timer = this.#clock.setTimer(this.#onTimer, due - this.#clock.now())
  }

  #cancelTimer(): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#timerDue = Number.POSITIVE_INFINITY
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined
    this.#timerDue = Number.POSITIVE_INFINITY
    this.#run(Number.NEGATIVE_INFINITY)
  }

  /** The later the timer, the more may wait; but a loop that is merely busy must not put off what is due. */
  #afterInput(late: number): void {
    const asked = this.#clock.now()
    this.#waitingForInput = true
    this.#clock.afterInput(
      () => {
        this.#waitingForInput = false
        this.#run(asked)
      },
      Math.min(Math.max(late, LEAST_WAIT), LONGEST_WAIT),
    )
  }

  /** Gives the event loop a turn between two slices. */
  #goOnLater(inputReadAt: number): void {
    this.#waitingForInput = true
    this.#clock.setTimer(() => {
      this.#waitingForInput = false
      this.#run(inputReadAt)
    }, 0)
  }

  /** `inputReadAt`: what waited in sockets at this time has been read. What came due later has input of its own to wait for. */
  #run(inputReadAt: number): void {
    const started = this.#clock.now()
    while (true) {
      const now = this.#clock.now()
      const earliest = this.#earliest()
      if (earliest === undefined) break
      // setTimeout may fire a millisecond early; comparing with the monotonic clock is what makes 'never early' true.
      if (earliest.due > now) {
        if (earliest.due < this.#timerDue) this.#schedule(earliest.due)
        return
      }
      // The event loop may have been blocked until now, and requests that would hold a session wait in sockets: they are read first.
      if (earliest.yieldsToInput && earliest.due > inputReadAt) {
        this.#cancelTimer()
        this.#afterInput(now - earliest.due)
        return
      }
      if (now - started > SLICE) {
        this.#cancelTimer()
        this.#goOnLater(inputReadAt)
        return
      }
      this.disarm(earliest)
      try {
        earliest.onDue()
      } catch (thrown) {
        this.#onThrow(thrown)
      }
    }
  }

  /** Handles what is due by now without waiting for the timer, for as long as one slice. */
  runDue(): void {
    if (!this.#waitingForInput) this.#run(Number.POSITIVE_INFINITY)
  }

  #earliest(): Deadline | undefined {
    let earliest = this.#heap[0]
    for (const list of this.#lists.values()) {
      const head = list.head
      if (head === undefined) continue
      if (earliest === undefined || head.due < earliest.due) earliest = head
    }
    return earliest
  }

  #heapPush(deadline: Deadline): void {
    this.#heap.push(deadline)
    this.#siftUp(this.#heap.length - 1, deadline)
  }

  #heapRemove(deadline: Deadline): void {
    const index = deadline.heapIndex
    deadline.heapIndex = -1
    const last = this.#heap.pop()
    if (last === undefined || last === deadline) return
    if (last.due < deadline.due) this.#siftUp(index, last)
    else this.#siftDown(index, last)
  }

  #siftUp(from: number, deadline: Deadline): void {
    let index = from
    while (index > 0) {
      const parentIndex = (index - 1) >> 1
      const parent = this.#heap[parentIndex]
      if (parent === undefined || parent.due <= deadline.due) break
      this.#heap[index] = parent
      parent.heapIndex = index
      index = parentIndex
    }
    this.#heap[index] = deadline
    deadline.heapIndex = index
  }

  #siftDown(from: number, deadline: Deadline): void {
    let index = from
    while (true) {
      const left = 2 * index + 1
      let childIndex = left
      let child = this.#heap[left]
      const right = this.#heap[left + 1]
      if (child !== undefined && right !== undefined && right.due < child.due) {
        childIndex = left + 1
        child = right
      }
      if (child === undefined || child.due >= deadline.due) break
      this.#heap[index] = child
      child.heapIndex = index
      index = childIndex
    }
    this.#heap[index] = deadline
    deadline.heapIndex = index
  }
}

function append(list: DeadlineList, deadline: Deadline): void {
  deadline.list = list
  deadline.previous = list.tail
  deadline.next = undefined
  if (list.tail === undefined) list.head = deadline
  else list.tail.next = deadline
  list.tail = deadline
}

function unlink(list: DeadlineList, deadline: Deadline): void {
  if (deadline.previous === undefined) list.head = deadline.next
  else deadline.previous.next = deadline.next
  if (deadline.next === undefined) list.tail = deadline.previous
  else deadline.next.previous = deadline.previous
  deadline.list = undefined
  deadline.next = undefined
  deadline.previous = undefined
}
