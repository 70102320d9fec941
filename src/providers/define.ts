import type { Static } from 'typebox'
import type { Provider, ProviderContext } from './provider.ts'

/** A JSON Schema (draft-07) of a mapping. Written `as const`, it gives the type of what it admits. */
export interface ObjectSchema {
  readonly type: 'object'
  readonly properties: Readonly<Record<string, object>>
  readonly required?: readonly string[]
  readonly [keyword: string]: unknown
}

/** What is wrong with an account's option, without its value. */
export interface AccountProblem {
  /** Absent: with the account as a whole. */
  readonly option?: string
  readonly problem: string
}

/** A type of store: its options' schema and how to open one. The registry in index.ts lists them all. */
export interface ProviderType<S extends ObjectSchema = ObjectSchema, A extends ObjectSchema = ObjectSchema> {
  /** The word in `providers.<name>.type`. */
  readonly type: string
  /** One sentence for the store table and the head of the documentation page. */
  readonly summary: string
  /** The options beside `type`; `additionalProperties: false`, a description each. Paths carry `format: 'path'`. */
  readonly schema: S
  /** What an account may set beside `provider` and `secret`. */
  readonly accountSchema: A
  /** What that schema can't say: called at start for each account of the type whose options fit it. */
  checkAccount?(account: string, options: Readonly<Record<string, unknown>>): readonly AccountProblem[]
  /** Opens the store `name`. What it takes is imported in here. Rejects with a GmsaError of CONFIG_INVALID. */
  open(name: string, options: Static<S>, context: ProviderContext): Promise<Provider>
}

/** Keeps the schemas' types together while the registry sees only {@link ProviderType}. */
export function defineProvider<const S extends ObjectSchema, const A extends ObjectSchema>(
  type: ProviderType<S, A>,
): ProviderType {
  return type as unknown as ProviderType
}
