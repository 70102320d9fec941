/** The address of a server, with a path behind it where wanted, as a JSON Schema pattern. */
export const ADDRESS_PATTERN = '^https?://[^/?#@\\s]+(?:/[^?#@\\s]*)?$'
/** Names with slashes between them and none at the ends, as a JSON Schema pattern. */
export const NAMES_PATTERN = '^[^/\\s]+(?:/[^/\\s]+)*$'
