/** The account that every server here hands out, and the header that asks for it. */
export const ACCOUNT = 'bench'

/** Nobody's credential. As JSON it has 94 bytes, the size of a usual one. */
export const CREDENTIAL = {
  username: 'svc-ccg',
  password: 'an-invented-password-of-33-octets',
  domainName: 'contoso.test',
} as const
