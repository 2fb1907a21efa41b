import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { HfTokenizer, wordTokenizer } from '../../lib/models/tokenizer.js'
import { temporaryFolder } from '../io/temporary-folder.js'
import { tokenizer } from '../support/small-models.js'

/** GPT-2's scheme with a vocabulary of a few merges. */
const bytePairs = {
  version: '1.0',
  added_tokens: [
    {
      id: 7,
      content: '<|end|>',
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    },
  ],
  normalizer: null,
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '<|end|>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [],
    special_tokens: { '<|end|>': { id: '<|end|>', ids: [7], tokens: ['<|end|>'] } },
  },
  decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
  model: {
    type: 'BPE',
    unk_token: null,
    vocab: { h: 0, i: 1, hi: 2, Ġ: 3, Ġhi: 4, Ã: 5, '©': 6 },
    merges: ['h i', 'Ġ hi'],
  },
}

describe('a tokenizer in the format of Hugging Face', () => {
  test('encodes and decodes byte pairs, with the tokens of its post-processor unless told not to', () => {
    const own = new HfTokenizer(bytePairs, { eos_token: { content: '<|end|>' } })
    expect([...own.encode('hi hi')]).toEqual([7, 2, 4])
    expect([...own.encode('hi hié', { addSpecialTokens: false })]).toEqual([2, 4, 5, 6])
    expect(own.decode([2, 4, 5, 6])).toBe('hi hié')
    expect(own.decode(Int32Array.of(7, 2), { skipSpecialTokens: true })).toBe('hi')
    expect(own.decode([])).toBe('')
    expect(own.vocabularySize).toBe(8)
    expect(own.endOfText).toBe(7)
    expect(own.isSpecial('<|end|>') && !own.isSpecial('hi')).toBe(true)
    // As Hugging Face's byte pairs do without an unknown token: what no merge covers is left out.
    expect([...own.encode('xhi', { addSpecialTokens: false })]).toEqual([2])
    expect(() => own.decode([8])).toThrow(/token 8/)
    expect(() => own.renderChat([{ role: 'user', content: 'hi' }])).toThrow(/chat template/)
  })

  test('renders chats with its template', () => {
    const messages = [
      { role: 'user' as const, content: 'w1 w2' },
      { role: 'assistant' as const, content: 'w3' },
      { role: 'user' as const, content: 'w4' },
    ]
    expect(tokenizer.renderChat(messages, { addGenerationPrompt: true })).toBe(
      'User: w1 w2 Assistant: w3 <end> User: w4 Assistant:',
    )
    const strict = wordTokenizer(['a', 'b'], {
      unknown: 'a',
      endOfText: 'b',
      chatTemplate: "{{ raise_exception('roles must alternate') }}",
    })
    expect(() => strict.renderChat(messages)).toThrow(/roles must alternate/)
  })

  test('is saved and read again', async () => {
    const folder = await temporaryFolder()
    await tokenizer.save(folder)
    const again = await HfTokenizer.load(folder)
    expect(again.encode('<end> w3 unheard-of')).toEqual(Int32Array.of(0, 7, 1))
    expect(again.renderChat([{ role: 'user', content: 'w1' }])).toBe('User: w1 ')
    await writeFile(join(folder, 'tokenizer.json'), '{"model": {"type": "Nothing"}}')
    await expect(HfTokenizer.load(folder)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining('tokenizer.json'),
    })
    await writeFile(join(folder, 'tokenizer.json'), '{')
    await expect(HfTokenizer.load(folder)).rejects.toMatchObject({ code: 'ERR_FORMAT' })
  })

  test('of whole words has the places of the list as ids', () => {
    expect(tokenizer.token(4)).toBe('w0')
    expect(tokenizer.id('w0')).toBe(4)
    expect(tokenizer.id('nothing')).toBeUndefined()
    expect(() => wordTokenizer(['a', 'a'], { unknown: 'a', endOfText: 'a' })).toThrow(/twice/)
    expect(() => wordTokenizer(['a'], { unknown: 'b', endOfText: 'a' })).toThrow(/'b'/)
  })
})
