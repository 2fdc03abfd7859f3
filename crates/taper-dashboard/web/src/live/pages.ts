import type { List } from '../types'

/** The first `count` of a list, asked for as many times as the server makes pages of them. */
export async function first<T extends { id: string }>(
  list: (limit: number, after?: string) => Promise<List<T>>,
  count: number,
): Promise<List<T>> {
  let { data, has_more } = await list(count)
  while (has_more && data.length < count) {
    const page = await list(count - data.length, data.at(-1)?.id)
    data = [...data, ...page.data]
    has_more = page.has_more
  }
  return { data, has_more }
}
