/** What every floor logs to; pino's loggers fit it. Secrets are never put into `fields`. */
export interface Log {
  trace(fields: object, message: string): void
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

const ignore = (): void => {}

/** Says nothing: for commands that report by themselves, and for tests. */
export const silentLog: Log = { trace: ignore, debug: ignore, info: ignore, warn: ignore, error: ignore }
