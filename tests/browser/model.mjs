// A BERT of 2 layers with random weights in Hugging Face layout: enough to train on, small enough for a step to take milliseconds.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const hidden = 32
const inner = 64
const layers = 2
const positions = 64

const special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
const praise = ['good', 'great', 'lovely', 'fine', 'superb', 'moving']
const blame = ['bad', 'awful', 'dull', 'weak', 'boring', 'flat']
const filler = ['the', 'a', 'film', 'plot', 'actor', 'scene', 'was', 'is', 'and', 'but', 'with', 'very', 'music', 'end']
const vocabulary = [...special, ...praise, ...blame, ...filler]

/** Numbers in [0, 1) that are the same in every run of the tests. */
export function random(seed) {
  return () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0
    return seed / 2 ** 32
  }
}

/** Writes a model folder. */
export function writeModel(folder) {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config, null, 2))
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer(), null, 2))
  writeFileSync(join(folder, 'model.safetensors'), safetensors(tensors()))
}

/** JSON lines of texts with one of two labels that their words tell. */
export function rows(count, seed, [negative, positive] = ['negative', 'positive']) {
  const next = random(seed)
  const pick = (words) => words[Math.floor(next() * words.length)]
  return Array.from({ length: count }, () => {
    const label = next() < 0.5 ? negative : positive
    const words = Array.from({ length: 4 + Math.floor(next() * 8) }, () => pick(filler))
    words.splice(Math.floor(next() * words.length), 0, pick(label === positive ? praise : blame))
    return JSON.stringify({ text: words.join(' '), label })
  }).join('\n')
}

const config = {
  architectures: ['BertModel'],
  model_type: 'bert',
  vocab_size: vocabulary.length,
  hidden_size: hidden,
  num_hidden_layers: layers,
  num_attention_heads: 2,
  intermediate_size: inner,
  hidden_act: 'gelu',
  hidden_dropout_prob: 0.1,
  attention_probs_dropout_prob: 0.1,
  max_position_embeddings: positions,
  type_vocab_size: 2,
  initializer_range: 0.02,
  layer_norm_eps: 1e-12,
  pad_token_id: 0,
}

function tensors() {
  const list = [
    ['embeddings.word_embeddings.weight', [vocabulary.length, hidden]],
    ['embeddings.position_embeddings.weight', [positions, hidden]],
    ['embeddings.token_type_embeddings.weight', [2, hidden]],
    ...norm('embeddings.LayerNorm'),
  ]
  for (let i = 0; i < layers; i += 1) {
    const layer = `encoder.layer.${i}`
    for (const name of ['query', 'key', 'value']) list.push(...linear(`${layer}.attention.self.${name}`, hidden, hidden))
    list.push(...linear(`${layer}.attention.output.dense`, hidden, hidden), ...norm(`${layer}.attention.output.LayerNorm`))
    list.push(...linear(`${layer}.intermediate.dense`, inner, hidden))
    list.push(...linear(`${layer}.output.dense`, hidden, inner), ...norm(`${layer}.output.LayerNorm`))
  }
  return [...list, ...linear('pooler.dense', hidden, hidden)]
}

const linear = (name, outputs, inputs) => [
  [`${name}.weight`, [outputs, inputs]],
  [`${name}.bias`, [outputs]],
]
const norm = (name) => [
  [`${name}.weight`, [hidden]],
  [`${name}.bias`, [hidden]],
]

/** A header of 8 bytes length and JSON, then the numbers. */
function safetensors(list) {
  const next = random(7)
  const header = { __metadata__: { format: 'pt' } }
  const values = []
  for (const [name, shape] of list) {
    const size = shape.reduce((a, b) => a * b)
    const constant = name.endsWith('LayerNorm.weight') ? 1 : name.endsWith('.bias') ? 0 : undefined
    header[name] = { dtype: 'F32', shape, data_offsets: [4 * values.length, 4 * (values.length + size)] }
    for (let i = 0; i < size; i += 1) values.push(constant ?? 0.1 * (next() + next() + next() - 1.5))
  }
  const json = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json, Buffer.from(Float32Array.from(values).buffer)])
}

function tokenizer() {
  const piece = (id) => ({ SpecialToken: { id, type_id: 0 } })
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: special.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [piece('[CLS]'), { Sequence: { id: 'A', type_id: 0 } }, piece('[SEP]')],
      pair: [piece('[CLS]'), { Sequence: { id: 'A', type_id: 0 } }, piece('[SEP]'), { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: {
        '[CLS]': { id: '[CLS]', ids: [2], tokens: ['[CLS]'] },
        '[SEP]': { id: '[SEP]', ids: [3], tokens: ['[SEP]'] },
      },
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(vocabulary.map((word, id) => [word, id])),
    },
  }
}
