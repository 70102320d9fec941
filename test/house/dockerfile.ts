/** One instruction, its continuation lines joined. */
export interface Instruction {
  readonly name: string
  readonly rest: string
}

/** A stage of a Dockerfile: from FROM to the next FROM. */
export interface Stage {
  readonly base: string
  readonly alias: string | undefined
  readonly instructions: readonly Instruction[]
}

/** Reads the subset of the Dockerfile format that ours uses: no heredocs, no escape directive. */
export function parseDockerfile(source: string): Stage[] {
  const lines = source.split('\n').filter((line) => line.trim() !== '' && !line.trimStart().startsWith('#'))
  const logical = lines
    .join('\n')
    .replace(/\\\n\s*/g, ' ')
    .split('\n')
  const stages: { base: string; alias: string | undefined; instructions: Instruction[] }[] = []
  for (const line of logical) {
    const [, name = '', rest = ''] = /^\s*(\w+)\s+(.*)$/.exec(line) ?? []
    if (name.toUpperCase() === 'FROM') {
      const [base = '', , alias] = rest.split(/\s+/)
      stages.push({ base, alias, instructions: [] })
    } else stages.at(-1)?.instructions.push({ name: name.toUpperCase(), rest })
  }
  return stages
}

/** The words of every instruction of that name. */
export const every = (stage: Stage, name: string): string[] =>
  stage.instructions.filter((instruction) => instruction.name === name).map(({ rest }) => rest)

/** The last instruction of that name, read as exec form. */
export function execForm(stage: Stage, name: string): string[] {
  const words: unknown = JSON.parse(every(stage, name).at(-1) ?? '[]')
  if (!Array.isArray(words)) throw new TypeError(`${name} is not in exec form`)
  return words.map(String)
}

/** ENV as an object; values without spaces. */
export const environmentOf = (stage: Stage): Record<string, string> =>
  Object.fromEntries(
    every(stage, 'ENV').flatMap((rest) =>
      rest.split(/\s+/).map((pair): [string, string] => {
        const [name = '', ...value] = pair.split('=')
        return [name, value.join('=')]
      }),
    ),
  )

/** What the stages copy from the checkout, sorted. */
export function sourcesOf(stages: readonly Stage[]): string[] {
  const copied = stages.flatMap((stage) => every(stage, 'COPY').filter((rest) => !rest.startsWith('--from=')))
  return copied.flatMap((rest) => rest.split(/\s+/).slice(0, -1)).sort()
}
