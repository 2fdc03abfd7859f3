import { afterEach, expect, test, vi } from 'vitest'
import { address, ApiError, onRefused, request } from './client'

const answer = (status: number, text: string) => {
  const fetch = vi.fn(() => Promise.resolve(new Response(status === 204 ? null : text, { status })))
  vi.stubGlobal('fetch', fetch)
  return fetch
}
afterEach(() => vi.unstubAllGlobals())

test('a call goes to the path with its parameters, and answers what the server sends', async () => {
  const fetch = answer(200, '{"id": "a/b"}')
  const job = await request('get', '/v1/fine_tuning/jobs/{id}', { path: { id: 'a/b' } })
  expect(job.id).toBe('a/b')
  expect(fetch).toHaveBeenCalledWith('/v1/fine_tuning/jobs/a%2Fb', { method: 'GET', headers: { accept: 'application/json' } })
  await request('patch', '/v1/fine_tuning/jobs/{id}', { path: { id: 'j' }, body: { priority: 3 } })
  expect(fetch).toHaveBeenLastCalledWith('/v1/fine_tuning/jobs/j', {
    method: 'PATCH',
    headers: { accept: 'application/json', 'content-type': 'application/json' },
    body: '{"priority":3}',
  })
})

test('what is not given is not in the query, and a path of several segments keeps its slashes', () => {
  expect(address('/v1/experiments', { query: { limit: 20, after: undefined } })).toBe('/v1/experiments?limit=20')
  expect(address('/v1/events/stream')).toBe('/v1/events/stream')
  const file = { path: { id: 'j', path: ['model', 'a b.json'] } }
  expect(address('/v1/fine_tuning/jobs/{id}/artifacts/{path}', file)).toBe('/v1/fine_tuning/jobs/j/artifacts/model/a%20b.json')
})

test('a refusal has the words of the server, or tells what came instead', async () => {
  answer(400, '{"error": {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": null}}')
  await expect(request('get', '/v1/models')).rejects.toEqual(new ApiError(400, 'no such model', 'model'))
  answer(502, '<html>')
  await expect(request('get', '/v1/models')).rejects.toThrow('the server answered 502 to /v1/models')
})

test('an answer without content is nothing, and a key that is asked for is told of', async () => {
  answer(204, '')
  expect(await request('delete', '/v1/session')).toBeNull()
  const refused = vi.fn()
  onRefused(refused)
  answer(401, '')
  await expect(request('get', '/v1/session')).rejects.toThrow('401')
  expect(refused).toHaveBeenCalledOnce()
})

test('what the description does not have is no TypeScript', () => {
  const wrong = [
    // @ts-expect-error There is no such path.
    () => request('get', '/v1/nothing'),
    // @ts-expect-error The path has no such method.
    () => request('delete', '/v1/models'),
    // @ts-expect-error The path has a parameter.
    () => request('get', '/v1/fine_tuning/jobs/{id}'),
    // @ts-expect-error A limit is a number.
    () => request('get', '/v1/experiments', { query: { limit: 'all' } }),
    // @ts-expect-error A priority is a number.
    () => request('patch', '/v1/fine_tuning/jobs/{id}', { path: { id: 'j' }, body: { priority: 'high' } }),
  ]
  expect(wrong).toHaveLength(5)
})
