/** What the simulation proves: the promises of docs/guarantees.md, which check proves which of them, and what puts each to the test. */

/** The promises, by their numbers in docs/guarantees.md. */
export const PROMISES = {
  P1: 'never early',
  P2: 'never much later',
  P3: 'ended is ended',
  P4: 'resumed exactly once',
  P5: "nobody else's",
  P6: 'every call is answered',
  P7: 'bounded',
  P8: 'clean shutdown',
  P9: 'a restart loses nothing',
  P10: 'nothing a client sends ends the process',
} as const

/** One of {@link PROMISES}. */
export type Promised = keyof typeof PROMISES

/** Every check of every kind of simulation, and the promise that it proves. A violation names its check. */
export const CHECKS = {
  // What an exchange, a call or an open stream holds does not end: by idleness, by age before the drain time, by eviction.
  'not under a hold': 'P1',
  // Not before `sessionIdleTimeout`, `unusedSessionTimeout`, `handshakeTimeout`, `sessionMaxAge` or `evictableAfter` have passed.
  'not before its time': 'P1',
  'ends for the reason that applies': 'P1',
  'no 404 while it lives': 'P1',
  'what waits in a socket counts from when it was sent': 'P1',
  'at most 250 ms late': 'P2',
  'at most 6 s late after a crash': 'P2',
  'opens once, ends once': 'P3',
  'only 404 after the end': 'P3',
  'deleted by its owner only, and then at once': 'P3',
  'a dead id is not given out again': 'P3',
  // A store that cannot answer, a drain, a full table, an instance that cannot be woken; nothing else.
  '503 for a reason only': 'P3',
  'each event once, in order': 'P4',
  'all that a call sent, on its own stream': 'P4',
  'what no call sent, in order': 'P4',
  'a request to the client comes once': 'P4',
  'nothing is left where 204 says so': 'P4',
  'an event id stands for one event': 'P4',
  'opened for the principal who asked': 'P5',
  'messages of its own server only': 'P5',
  'foreign and unknown get the same bytes': 'P5',
  'foreign is refused': 'P5',
  'each request is answered as foreseen': 'P6',
  'no status of 500 and more': 'P6',
  'what was accepted is answered': 'P6',
  'no connection is cut whose client is there': 'P6',
  'cancelled is aborted': 'P6',
  'aborted for a reason only': 'P6',
  'a request starts once, ends once': 'P6',
  'waking that fails is answered, and the session stays': 'P6',
  'nothing happens on an exchange that its contract does not foresee': 'P6',
  'limits hold': 'P7',
  'refused as full when it is full only': 'P7',
  'room is made of what the caller may give up': 'P7',
  'what failed to open holds nothing': 'P7',
  'nothing is left behind': 'P7',
  'what nothing uses sleeps, what is at work does not': 'P7',
  'nothing opens in a drain': 'P8',
  'calls finish in the drain': 'P8',
  'a drain ends in its time': 'P8',
  'streams are told when to come back': 'P8',
  'a second close waits for the first': 'P8',
  'what was acknowledged is there': 'P9',
  'what a session is survives its instance': 'P9',
  'a number is given out once': 'P9',
  'woken once, for what needs it': 'P9',
  'nobody has to catch anything': 'P10',
  'the run comes to its end': 'P10',
} as const satisfies Record<string, Promised>

/** One of {@link CHECKS}. */
export type Check = keyof typeof CHECKS

/** What a promise can be put to the test by, for each kind of simulation; each is counted. */
export const STAKES = {
  sessions: {
    'expired idle': 'P1',
    'expired unused': 'P1',
    'outlived the timeout under a call': 'P1',
    'outlived the timeout under a stream': 'P1',
    'outlived the timeout under an upload': 'P1',
    'request within 1 ms of expiry': 'P1',
    'refused while the clock ran': 'P2',
    'deadline met': 'P2',
    'asked after the end': 'P3',
    'initialize with a dead id': 'P3',
    'dropped in a call': 'P4',
    resumed: 'P4',
    'resumed with a gap': 'P4',
    'resumed from an earlier event': 'P4',
    'nothing left to resume': 'P4',
    'foreign attempt': 'P5',
    'message checked for its owner': 'P5',
    'call answered': 'P6',
    'call cancelled': 'P6',
    'call reported as failed': 'P6',
    'call detached too long': 'P6',
    'the same id twice in flight': 'P6',
    'asked the client': 'P6',
    evicted: 'P7',
    'refused as full': 'P7',
    'run ended clean': 'P7',
    drained: 'P8',
    'call finished in the drain': 'P8',
    'initialize in the drain': 'P8',
    'closed twice': 'P8',
  },
  sleep: {
    'expired asleep': 'P1',
    'expiry on time': 'P2',
    'asked after the end': 'P3',
    'event over a sleep': 'P4',
    'resumed over a sleep': 'P4',
    'foreign attempt on a sleeper': 'P5',
    'call answered': 'P6',
    'waking failed': 'P6',
    'asked the client': 'P6',
    slept: 'P7',
    'slept to make room': 'P7',
    'call finished in the drain': 'P8',
    drained: 'P8',
    woken: 'P9',
    'woken by several at once': 'P9',
    'level or subscription replayed': 'P9',
  },
  restart: {
    'idle time checked': 'P1',
    'late use checked': 'P2',
    'told of an end': 'P3',
    deleted: 'P3',
    'asked after the end': 'P3',
    resumed: 'P4',
    'event id checked': 'P4',
    'foreign attempt': 'P5',
    'call answered': 'P6',
    'cut call resumed': 'P6',
    'run ended clean': 'P7',
    'stopped in order': 'P8',
    'call finished in the drain': 'P8',
    crash: 'P9',
    'store failure': 'P9',
    'change acknowledged': 'P9',
    'logged event found': 'P9',
  },
} as const satisfies Record<string, Record<string, Promised>>

/** A kind of simulation. */
export type KindName = keyof typeof STAKES

/** What is counted in one kind. */
export type Stake = { [K in KindName]: keyof (typeof STAKES)[K] }[KindName]
