import type * as http from 'node:http'

/**
 * node:http without an import of it: that would evaluate everything it exports, its WebSocket with the whole of undici
 * too, which costs each start 20 ms and 2 MiB.
 */
const { createServer, get, STATUS_CODES }: typeof http = process.getBuiltinModule('node:http')

export { createServer, get, STATUS_CODES }
