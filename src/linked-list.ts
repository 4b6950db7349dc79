/** Lists whose links are their members' own: adding and removing cost O(1) and make nothing. */

/** A member's links; the list's to set. One is in at most one list of its kind at a time. */
export interface Linked<T> {
  /** @internal */ next: T | undefined
  /** @internal */ previous: T | undefined
}

/** A list in the order of {@link LinkedList.append}. */
export class LinkedList<T extends Linked<T>> {
  #first: T | undefined
  #last: T | undefined

  /** The one that was appended before all others. */
  get first(): T | undefined {
    return this.#first
  }

  /** The one that was appended after all others. */
  get last(): T | undefined {
    return this.#last
  }

  /** Adds a member that is in no list. */
  append(member: T): void {
    member.previous = this.#last
    member.next = undefined
    if (this.#last === undefined) this.#first = member
    else this.#last.next = member
    this.#last = member
  }

  /** Takes a member out. */
  remove(member: T): void {
    const { next, previous } = member
    if (previous === undefined) this.#first = next
    else previous.next = next
    if (next === undefined) this.#last = previous
    else next.previous = previous
    member.next = undefined
    member.previous = undefined
  }
}
