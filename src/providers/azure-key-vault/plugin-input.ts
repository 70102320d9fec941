/** What the plug-in of Azure Key Vault for CCG reads in a credential spec's `PluginInput`. */
export interface PluginInput {
  /** Object id of the managed identity to ask as. */
  readonly objectId?: string
  readonly secretUri: string
}

/**
 * Parses `ObjectId=…;SecretUri=…` as that plug-in does: names in any case and order, unknown ones passed over, a value
 * is all text from the first `=` to the next `;`, with blanks and quotes. Undefined where there is no SecretUri.
 */
export function parsePluginInput(text: string): PluginInput | undefined {
  const values = new Map<string, string>()
  for (const part of text.split(';')) {
    const equals = part.indexOf('=')
    if (equals > 0) values.set(part.slice(0, equals).toLowerCase(), part.slice(equals + 1))
  }
  const [objectId, secretUri] = [values.get('objectid'), values.get('secreturi')]
  return secretUri ? { ...(objectId && { objectId }), secretUri } : undefined
}
