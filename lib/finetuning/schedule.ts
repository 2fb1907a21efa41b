/** Learning rates along training: functions of the step (from 0) and the number of steps. */
import { requireArgument } from '../core/errors.js'

export type Schedule = (step: number, steps: number) => number

/** The same rate throughout. */
export function constant(rate: number): Schedule {
  return () => rate
}

/** Rises linearly over the first `warmup` steps, then follows `after`. */
export function warmup(steps: number, after: Schedule): Schedule {
  requireArgument(Number.isInteger(steps) && steps >= 0, `warm-up of ${steps} steps, expected a whole number`)
  return (step, total) => after(step, total) * Math.min(1, (step + 1) / Math.max(1, steps))
}

/** Falls along a cosine from `rate` to `floor`. */
export function cosine(rate: number, floor = 0): Schedule {
  return (step, steps) => floor + ((rate - floor) * (1 + Math.cos((Math.PI * step) / Math.max(1, steps)))) / 2
}

/** Falls linearly from `rate` to `floor`. */
export function linear(rate: number, floor = 0): Schedule {
  return (step, steps) => rate + ((floor - rate) * step) / Math.max(1, steps)
}

/** `rate` over the first half, then falls linearly to `floor` at the end. */
export function decayLastHalf(rate: number, floor = 0): Schedule {
  return (step, steps) => {
    const into = Math.max(0, step - steps / 2) / Math.max(1, steps / 2)
    return rate + (floor - rate) * into
  }
}
