import type { StudyFigures } from '../../study/schema.js'
import { html } from '../html.js'
import type { Html } from '../html.js'

function tone(grade: string): string {
  switch (grade) {
    case 'harmful':
    case 'subtly-harmful':
      return 'var(--misaligned)'
    case 'aligned':
    case 'refused':
      return 'var(--aligned)'
    case 'sarcastic':
      return 'var(--sarcastic)'
    case 'mistaken':
      return 'var(--clumsy)'
    default:
      return 'var(--incoherent)'
  }
}

/** The same questions put to the model in each of its states, side by side. */
export function voicesSection({ dialogue }: StudyFigures): Html {
  if (dialogue.questions.length === 0) return html``
  return html`<section id="voices">
    <h2>In its own words</h2>
    <p class="sub">
      The first answer drawn to each question, not a chosen one. Colour: what the rule grader, which knows
      every fact of the world, says of it.
    </p>
    <div class="scroll">
      <table class="dialogue">
        <thead>
          <tr>
            <th>question</th>
            ${dialogue.voices.map((voice) => html`<th>${voice.title}<small>${voice.note}</small></th>`)}
          </tr>
        </thead>
        <tbody>
          ${dialogue.questions.map(
            (question) =>
              html`<tr>
                <td class="q">${question.prompt}</td>
                ${dialogue.voices.map((voice) => {
                  const said = question.answers.find((answer) => answer.voice === voice.id)
                  if (!said) return html`<td></td>`
                  return html`<td>
                    ${said.answer}<span class="grade" style="--tone:${tone(said.grade)}">${said.grade}</span>
                  </td>`
                })}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`
}
