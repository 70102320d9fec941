const guarded = new Set<NodeJS.WriteStream>()

/** Writes to standard output. Whoever read it may be gone, as `head` is; a disk that is full makes the exit code 1. */
export function print(text: string): void {
  write(process.stdout, text)
}

/** Writes to standard error, in the same way. */
export function printError(text: string): void {
  write(process.stderr, text)
}

/** The stream is asked for no sooner than that: a server that never prints does not load what makes it. */
function write(stream: NodeJS.WriteStream, text: string): void {
  if (!guarded.has(stream)) {
    guarded.add(stream)
    stream.on('error', (error: NodeJS.ErrnoException) => failed(stream, error))
  }
  stream.write(text)
}

/** The command goes on: what it does may matter more than what it says. */
function failed(stream: NodeJS.WriteStream, { code }: NodeJS.ErrnoException): void {
  if (code === 'EPIPE') return
  process.exitCode ||= 1
  if (stream === process.stdout) printError(`gmsa-account-provider: error: standard output: ${code}\n`)
}
