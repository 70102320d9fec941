/**
 * What `promise` gives, unless `signal` is aborted first: then it rejects with the signal's reason, whatever becomes of
 * `promise`, which is no longer waited for.
 */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal.reason)
  if (signal.aborted) abort()
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([promise, aborted])
  } catch (error) {
    // An abort that made `promise` fail may have been heard there before it was heard here.
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
