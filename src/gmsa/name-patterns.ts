/** The grammar of sAMAccountName as a JSON Schema pattern: that of a gMSA ends in its one `$`. */
export const SAM_ACCOUNT_NAME_PATTERN = '^[^\\u0000-\\u0020"/\\\\\\[\\]:;|=,+*?<>@$]{1,255}\\$$'
/** The DNS name of a domain. */
export const DOMAIN_PATTERN =
  '^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$'
/** A service principal name: class and host, and for some services a name of their own. */
export const SPN_PATTERN = '^[^\\u0000-\\u0020/@]+(?:/[^\\u0000-\\u0020/@]+){1,2}$'
/** A SID in text, of an account in a domain. */
export const SID_PATTERN = '^S-1-5-21(?:-[0-9]{1,10}){4}$'
/** Bytes in base64 (RFC 4648 4), one at least. */
export const BASE64_PATTERN = '^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)$'
/** RFC 3339 with a zone, or as a directory writes it (RFC 4517 3.3.13). */
export const TIME_PATTERN =
  '^(?:[0-9]{14}\\.0Z|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2}))$'
