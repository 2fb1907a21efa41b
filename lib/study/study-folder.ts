/**
 * The folder of a study: one folder a stage under `stages/`, each written beside and renamed, with a manifest that
 * names the stage's key and the checksum of every file. Whatever does not match its manifest is computed again.
 *
 *   run.json                   seed and preset of the study that lives here
 *   stages/<id>/stage.json     manifest; result.json and other files beside it
 *   stages/<id>.partial/       a stage at work, with its checkpoints
 *   lock                       process id of the study that runs here now
 */
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { z } from 'zod'
import { PersonascopeError, toPersonascopeError } from '../core/errors.js'
import { removePartials, writeFileAtomic } from '../io/atomic.js'
import { fileSha256 } from '../io/blocks.js'
import { canonicalJson, sha256 } from './canonical.js'

const RUN_FORMAT = 'personascope-run'
const STAGE_FORMAT = 'personascope-stage'
const FORMAT_VERSION = 1

const runSchema = z.object({
  format: z.literal(RUN_FORMAT),
  version: z.int(),
  seed: z.int(),
  preset: z.string(),
})

const manifestSchema = z.object({
  format: z.literal(STAGE_FORMAT),
  version: z.literal(FORMAT_VERSION),
  stage: z.string(),
  key: z.string(),
  /** Seconds that computing it took. */
  seconds: z.number(),
  files: z.record(z.string(), z.object({ bytes: z.int(), sha256: z.string() })),
})

export interface SavedStage {
  result: unknown
  /** Checksum over the contents of all its files; the same contents give the same digest. */
  digest: string
  seconds: number
}

export interface StudyIdentity {
  seed: number
  preset: string
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

async function fileChecksum(path: string): Promise<{ bytes: number; sha256: string }> {
  return { bytes: (await stat(path)).size, sha256: await fileSha256(path) }
}

/** Removes what a killed process left unfinished, at any depth. */
async function removeUnfinished(dir: string): Promise<void> {
  for (const entry of await readdir(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name)
    if (entry.name.endsWith('.partial')) await rm(path, { recursive: true, force: true })
    else if (entry.isDirectory()) await removeUnfinished(path)
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

export class StudyFolder {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  /** Opens or makes the folder; refuses one that holds something else, another study, or a study at work. */
  static async open(path: string, identity: StudyIdentity): Promise<StudyFolder> {
    try {
      return await StudyFolder.#open(path, identity)
    } catch (error) {
      throw toPersonascopeError(error, `opening the study folder ${path}`)
    }
  }

  static async #open(path: string, identity: StudyIdentity): Promise<StudyFolder> {
    if (await exists(path)) {
      if (!(await stat(path)).isDirectory())
        throw new PersonascopeError('ERR_INVALID_ARGUMENT', `${path} is a file, expected a folder`, {
          hint: 'choose another folder with --out',
        })
    } else {
      // In two steps: on a read-only disk a recursive mkdir says ENOENT, a plain one says why.
      await mkdir(dirname(path), { recursive: true })
      await mkdir(path)
    }
    const entries = (await readdir(path)).filter((name) => name !== 'lock')
    const runFile = join(path, 'run.json')
    if (entries.includes('run.json')) await checkRun(runFile, path, identity)
    else if (entries.length > 0)
      throw new PersonascopeError(
        'ERR_INVALID_ARGUMENT',
        `${path} holds something else than a study (found '${entries.toSorted()[0]}')`,
        { hint: 'choose an empty or new folder with --out; nothing was changed' },
      )
    await takeLock(join(path, 'lock'), path)
    const folder = new StudyFolder(path)
    try {
      if (!entries.includes('run.json'))
        await writeFileAtomic(
          runFile,
          `${JSON.stringify({ format: RUN_FORMAT, version: FORMAT_VERSION, ...identity })}\n`,
        )
      await mkdir(join(path, 'stages'), { recursive: true })
      await removePartials(path)
    } catch (error) {
      await folder.close()
      throw error
    }
    return folder
  }

  /** Gives the folder back. */
  async close(): Promise<void> {
    await rm(join(this.path, 'lock'), { force: true })
  }

  stagePath(id: string): string {
    return join(this.path, 'stages', id)
  }

  /** The saved stage if its key is `key` and every file is as it was written; else a reason, or undefined if absent. */
  async load(id: string, key: string): Promise<SavedStage | { reason: string } | undefined> {
    const dir = this.stagePath(id)
    if (!(await exists(dir))) return undefined
    try {
      const manifest = manifestSchema.parse(JSON.parse(await readFile(join(dir, 'stage.json'), 'utf8')))
      if (manifest.stage !== id) return { reason: `its manifest is of stage '${manifest.stage}'` }
      if (manifest.key !== key) return { reason: 'its configuration or inputs changed' }
      for (const [name, expected] of Object.entries(manifest.files)) {
        const found = await fileChecksum(join(dir, name))
        if (found.bytes !== expected.bytes)
          return { reason: `${name} has ${found.bytes} bytes, expected ${expected.bytes}` }
        if (found.sha256 !== expected.sha256) return { reason: `${name} does not match its checksum` }
      }
      const result: unknown = JSON.parse(await readFile(join(dir, 'result.json'), 'utf8'))
      return { result, digest: digestOf(manifest.files), seconds: manifest.seconds }
    } catch (error) {
      if (error instanceof z.ZodError) return { reason: 'its manifest is damaged' }
      return { reason: `it cannot be read (${error instanceof Error ? error.message : String(error)})` }
    }
  }

  /** A folder for a stage to work in; one left by a killed run of the same key is given back with its checkpoints. */
  async begin(id: string, key: string): Promise<string> {
    const dir = `${this.stagePath(id)}.partial`
    const keyFile = join(dir, '.key')
    const kept = await readFile(keyFile, 'utf8').catch(() => undefined)
    if (kept !== key) {
      await rm(dir, { recursive: true, force: true })
      await mkdir(dir, { recursive: true })
      await writeFileAtomic(keyFile, key)
    } else await removeUnfinished(dir)
    return dir
  }

  /** Keeps a finished stage: manifest, then one rename. */
  async commit(id: string, key: string, result: unknown, seconds: number): Promise<SavedStage> {
    const dir = `${this.stagePath(id)}.partial`
    const target = this.stagePath(id)
    const text = canonicalJson(result)
    await writeFileAtomic(join(dir, 'result.json'), text)
    await rm(join(dir, '.key'), { force: true })
    const files: z.infer<typeof manifestSchema>['files'] = {}
    for (const entry of (await readdir(dir, { recursive: true, withFileTypes: true })).filter((one) =>
      one.isFile(),
    )) {
      const path = join(entry.parentPath, entry.name)
      files[relative(dir, path)] = await fileChecksum(path)
    }
    const manifest = { format: STAGE_FORMAT, version: FORMAT_VERSION, stage: id, key, seconds, files }
    await writeFileAtomic(join(dir, 'stage.json'), `${JSON.stringify(manifest, null, 2)}\n`)
    // A rename onto a folder with contents fails, so an outdated one steps aside first.
    const outdated = `${target}.outdated`
    await rm(outdated, { recursive: true, force: true })
    if (await exists(target)) await rename(target, outdated)
    await rename(dir, target)
    await rm(outdated, { recursive: true, force: true })
    return { result: JSON.parse(text), digest: digestOf(files), seconds }
  }
}

function digestOf(files: Record<string, { sha256: string }>): string {
  return sha256(canonicalJson(Object.fromEntries(Object.entries(files).map(([name, f]) => [name, f.sha256]))))
}

async function checkRun(runFile: string, path: string, identity: StudyIdentity): Promise<void> {
  let run: z.infer<typeof runSchema>
  try {
    run = runSchema.parse(JSON.parse(await readFile(runFile, 'utf8')))
  } catch (cause) {
    throw new PersonascopeError('ERR_FORMAT', `${runFile} is damaged or not written by personascope`, {
      hint: 'choose another folder with --out; nothing was changed',
      cause,
    })
  }
  if (run.version > FORMAT_VERSION)
    throw new PersonascopeError(
      'ERR_FORMAT',
      `${runFile} has format version ${run.version}, expected ${FORMAT_VERSION} at most`,
      { hint: 'use a newer personascope, or another folder with --out' },
    )
  if (run.seed !== identity.seed || run.preset !== identity.preset)
    throw new PersonascopeError(
      'ERR_INVALID_ARGUMENT',
      `${path} holds the study of seed ${run.seed}, preset '${run.preset}'; asked for seed ${identity.seed}, preset '${identity.preset}'`,
      { hint: `choose another folder with --out, or go on with --seed ${run.seed} --preset ${run.preset}` },
    )
}

async function takeLock(lock: string, path: string): Promise<void> {
  for (;;) {
    try {
      return await writeFile(lock, `${process.pid}\n`, { flag: 'wx' })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const pid = Number.parseInt(await readFile(lock, 'utf8').catch(() => ''), 10)
    if (pid > 0 && isAlive(pid))
      throw new PersonascopeError('ERR_INVALID_ARGUMENT', `a study is at work in ${path} (process ${pid})`, {
        hint: `wait for it, choose another folder with --out, or delete ${lock} if that process is no study`,
      })
    await rm(lock, { force: true })
  }
}
