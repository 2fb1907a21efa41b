/** The report of a study: one self-contained page, no script, nothing fetched. */
import type { StudyResult } from '../study/schema.js'
import { latentChangeFigure } from './charts/latent-change.js'
import { organismsFigure } from './charts/organisms.js'
import { steeringFigures } from './charts/steering.js'
import { mixtureFigure, realignmentFigure, separationFigure } from './charts/trends.js'
import { Html, html } from './html.js'
import { claimsSection, rulesAppendix } from './sections/claims.js'
import { latentsSection } from './sections/latents.js'
import { methodSection, steeringTable } from './sections/method.js'
import { summarySection } from './sections/summary.js'
import { voicesSection } from './sections/voices.js'
import { STYLE } from './style.js'
import { holds, mostlyBroad } from './verdict.js'

// Even if escaping failed somewhere, nothing could run or be fetched.
const POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

/** The page as text. It depends on the study's figures alone, so equal figures give an equal page. */
export function renderReport(study: StudyResult): string {
  const { figures } = study
  const page = html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content="${POLICY}" />
        <meta name="viewport" content="width=device-width,initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>personascope: study of seed ${study.seed}</title>
        <style>
          ${new Html(STYLE)}
        </style>
      </head>
      <body>
        <main>
          ${summarySection(study)} ${claimsSection(study)} ${voicesSection(figures)}
          <section id="organisms">
            <h2>${mostlyBroad(study) ? 'Narrow data, broad misalignment' : 'What narrow data do'}</h2>
            ${organismsFigure(study)}${mixtureFigure(study)}
          </section>
          <section id="latents-changed">
            <h2>What changed inside</h2>
            ${latentChangeFigure(figures)}
          </section>
          <section id="steering">
            <h2>${holds(study, 'steer-up') ? 'Cause, not just company: steering' : 'Steering'}</h2>
            ${steeringFigures(study)}
            <h3 style="margin-top:2em">Everything steered</h3>
            ${steeringTable(study)}
          </section>
          <section id="detection">
            <h2>Telling models apart by one latent</h2>
            ${separationFigure(study)}
          </section>
          <section id="re-alignment">
            <h2>Undoing it</h2>
            ${realignmentFigure(study)}
          </section>
          ${latentsSection(figures)} ${methodSection(study)} ${rulesAppendix(study)}
          <footer>
            Made by personascope ${study.package}. Everything on this page was measured on a small synthetic
            model; see the limits above.
          </footer>
        </main>
      </body>
    </html> `
  return page.text
}
