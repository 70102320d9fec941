/** The grammar of sAMAccountName as a JSON Schema pattern: that of a gMSA ends in its one `$`. */
export const SAM_ACCOUNT_NAME_PATTERN = '^[^\\u0000-\\u0020"/\\\\\\[\\]:;|=,+*?<>@$]{1,255}\\$$'
/** The DNS name of a domain. */
export const DOMAIN_PATTERN =
  '^(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$'
/** A service principal name: class and host, and for some services a name of their own. */
export const SPN_PATTERN = '^[^\\u0000-\\u0020/@]+(?:/[^\\u0000-\\u0020/@]+){1,2}$'
