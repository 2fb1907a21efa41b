/** Peers: other libraries' way to do the same on the same data, in Python (bench/peers). */
import { join } from 'node:path'
import { Contender, type Times } from './contender.js'
import { root } from './native.js'
import { median, significant, type PeerResult } from './results.js'

/** What a peer's script says first: its version, or why it cannot run here. */
interface PeerHello {
  version?: string
  absent?: string
  install?: string
}

export interface Peer {
  name: string
  version: string
  contender: Contender<PeerHello>
}

/** A running peer, or why there is none and how to get it. */
export async function startPeer(
  script: string,
  name: string,
  args: readonly string[],
  options: { python?: string | undefined; threads: number },
): Promise<Peer | string> {
  const threads = String(options.threads)
  const python = options.python ?? '/usr/bin/python3'
  const command = [join(root, 'bench', 'peers', script), name, ...args]
  const environment = { OMP_NUM_THREADS: threads, OPENBLAS_NUM_THREADS: threads, MKL_NUM_THREADS: threads }
  try {
    const contender = await Contender.start<PeerHello>(python, command, environment)
    const { version, absent, install } = contender.hello
    if (version !== undefined) return { name, version, contender }
    await contender.end()
    return `${absent ?? 'it says nothing'}; install it with: ${install ?? 'see bench/README.md'}`
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

/** Times of contenders that took turns. */
export class Rounds {
  readonly ours: number[] = []
  readonly theirs: number[] = []
  constructor(readonly clock: 'cpuSeconds' | 'seconds') {}

  add(ours: Times, theirs?: Times): void {
    this.ours.push(ours[this.clock])
    if (theirs !== undefined) this.theirs.push(theirs[this.clock])
  }

  /** How many times theirs is ours, round by round. */
  get ratio(): number {
    return significant(median(this.theirs.map((seconds, i) => seconds / this.ours[i]!)), 3)
  }

  peer(version: string, tokens: number, wrongTokens: number | null): PeerResult {
    const seconds = median(this.theirs)
    return {
      version,
      seconds: significant(seconds),
      tokensPerSecond: significant(tokens / seconds),
      wrongTokens,
    }
  }
}
