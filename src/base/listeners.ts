/** Those who want to be told of something. */
export interface Listeners<What extends readonly unknown[]> {
  /** Calls each of them. */
  tell(...what: What): void
  /** Calls back until disposed; the same function twice is called twice. */
  add(listener: (...what: What) => void): Disposable
  clear(): void
}

export function makeListeners<What extends readonly unknown[]>(): Listeners<What> {
  const all = new Set<{ readonly told: (...what: What) => void }>()
  return {
    tell(...what) {
      for (const { told } of [...all]) told(...what)
    },
    add(told) {
      const listener = { told }
      all.add(listener)
      return { [Symbol.dispose]: () => void all.delete(listener) }
    },
    clear: () => all.clear(),
  }
}
