import { GmsaError } from './errors.ts'

/** What may be logged of something thrown: where it comes from, and nothing that it says. */
export interface Fault {
  /** The class of an error, the type of anything else. */
  readonly type: string
  /** As the system and libraries set it: capitals, digits and underscores. */
  readonly code?: string
  /** Only of our own errors: others quote what they were given, a secret perhaps. */
  readonly message?: string
  /** The frames of the stack, innermost first. */
  readonly stack?: readonly string[]
  readonly cause?: Fault
}

const WORD = /^[A-Za-z_$][\w$]{0,63}$/
const CODE = /^[A-Z][A-Z0-9_]{0,63}$/
const FRAME = /^ {4}at .*$/gm
const MAX_FRAMES = 20
const MAX_CAUSES = 5

/** The fault for the log: class, code and stack, those of its causes too. Messages of foreign errors are left out. */
export function faultOf(thrown: unknown, causes = MAX_CAUSES): Fault {
  if (!(thrown instanceof Error)) return { type: thrown === null ? 'null' : typeof thrown }
  const { name } = thrown.constructor
  const { code } = thrown as NodeJS.ErrnoException
  return {
    type: WORD.test(name) ? name : 'Error',
    ...(typeof code === 'string' && CODE.test(code) && { code }),
    ...(thrown instanceof GmsaError && { message: thrown.message }),
    stack: framesOf(thrown),
    ...(thrown.cause !== undefined && causes > 0 && { cause: faultOf(thrown.cause, causes - 1) }),
  }
}

/** For the log line of an error: what is behind an INTERNAL one, and nothing for any other. */
export function faultBehind(error: GmsaError | undefined): { readonly fault?: Fault } {
  return error?.code === 'INTERNAL' ? { fault: faultOf(error.cause ?? error) } : {}
}

/** The stack begins with the message as it was when the error was made; one that was changed since has no frames. */
function framesOf({ message, stack = '' }: Error): string[] {
  const start = stack.indexOf(message)
  if (start < 0) return []
  return (stack.slice(start + message.length).match(FRAME) ?? []).slice(0, MAX_FRAMES).map((frame) => frame.trim())
}
