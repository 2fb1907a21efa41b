/** The Python lines of the README write activations that are read as a store, bit for bit. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ActivationStore } from '../../lib/activations/store.js'
import { temporaryFolder } from '../io/temporary-folder.js'

const python = '/usr/bin/python3'
const torch = spawnSync(python, ['-c', 'import torch, numpy']).status === 0

/** safetensors' documented layout (https://github.com/huggingface/safetensors), where the library is not installed. */
const writer = `
import json, struct

names = {"torch.float32": "F32", "torch.float16": "F16", "torch.bfloat16": "BF16", "torch.int64": "I64"}

def save_file(tensors, path, metadata=None):
    header, blobs, at = ({"__metadata__": metadata} if metadata else {}), [], 0
    for name, tensor in tensors.items():
        tensor = tensor.contiguous()
        blob = bytes(tensor.view(-1).view(__import__("torch").uint8).tolist())
        header[name] = {"dtype": names[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
`

/** A model of the shape that the lines expect, and what its hook saw. */
const program = (lines: string, dtype: string): string => `
import json, sys, types
import torch

module = types.ModuleType("safetensors.torch")
exec(open("writer.py").read(), module.__dict__)
sys.modules["safetensors"], sys.modules["safetensors.torch"] = types.ModuleType("safetensors"), module
torch.manual_seed(1)

class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
    def forward(self, x):
        return (x + torch.tanh(self.linear(x)),)

class Body(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layers = torch.nn.Embedding(50, 8), torch.nn.ModuleList(Block() for _ in range(17))
    def forward(self, ids):
        x = self.embed(ids)
        self.seen = []
        for layer in self.layers:
            x = layer(x)[0]
            self.seen.append(x)
        return x

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.model = Body()
    def forward(self, ids):
        return self.model(ids)

model = Model().to(torch.${dtype})
prompts = [torch.tensor([3, 1, 4, 1, 5]), torch.tensor([9]), torch.tensor([2, 6, 5])]
${lines}
expected = []
for tokens in prompts:
    with torch.no_grad():
        model(tokens[None])
    expected += model.model.seen[15][0].float().tolist()
json.dump(expected, open("expected.json", "w"))
`

describe.skipIf(!torch)("the README's Python", () => {
  it.each(['float32', 'bfloat16'])('writes a store of %s', async (dtype) => {
    const lines = /```python\n([\s\S]*?)```/.exec(await readFile('README.md', 'utf8'))?.[1]
    expect(lines).toMatch(/register_forward_hook/)
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'writer.py'), writer)
    await writeFile(join(folder, 'run.py'), program(lines!, dtype))
    execFileSync(python, ['run.py'], { cwd: folder })
    const store = await ActivationStore.open(join(folder, 'base.safetensors'))
    expect(store).toMatchObject({ rows: 9, dModel: 8, sequences: 3 })
    const expected = JSON.parse(await readFile(join(folder, 'expected.json'), 'utf8')) as number[][]
    for await (const batch of store.batches({ batchSize: 4 })) {
      const first = batch.ids[0]!
      expect(batch.values).toEqual(Float32Array.from(expected.slice(first, first + batch.rows).flat()))
      expect([...batch.tokens]).toEqual([3, 1, 4, 1, 5, 9, 2, 6, 5].slice(first, first + batch.rows))
      expect([...batch.groups]).toEqual([0, 0, 0, 0, 0, 1, 2, 2, 2].slice(first, first + batch.rows))
    }
  })

  it('and numpy .npy files, of any order and precision', async () => {
    const folder = await temporaryFolder()
    await mkdir(join(folder, 'many'))
    const script = `
import numpy as np
x = np.arange(24, dtype=np.float64).reshape(6, 4) / 8
np.save("a.npy", x.astype(np.float32)); np.save("b.npy", np.asfortranarray(x.astype(np.float16))); np.save("c.npy", x)
np.save("many/0.npy", x[:2].astype(np.float32)); np.save("many/1.npy", x[2:].astype(np.float16)); np.savez("d.npz", activations=x.astype(np.float32))
np.save("bad.npy", np.zeros((2, 3, 4), np.float32)); np.save("whole.npy", np.zeros((3, 4), np.int32))
`
    execFileSync(python, ['-c', script], { cwd: folder })
    for (const name of ['a.npy', 'b.npy', 'c.npy', 'd.npz', 'many']) {
      const store = await ActivationStore.open(join(folder, name))
      expect(store).toMatchObject({ rows: 6, dModel: 4, sequences: 6 })
      const { values, groups } = await store.read([5, 0, 3])
      expect([...values]).toEqual([20, 21, 22, 23, 0, 1, 2, 3, 12, 13, 14, 15].map((value) => value / 8))
      expect([...groups]).toEqual([5, 0, 3])
    }
    for (const name of ['bad.npy', 'whole.npy'])
      await expect(ActivationStore.open(join(folder, name))).rejects.toMatchObject({
        code: 'ERR_FORMAT',
        message: expect.stringMatching(/expected 'activations' \[rows, dModel\]/),
      })
  })
})
