const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })

/** 1240 → "1,240". */
export const count = (n: number) => whole.format(n)

/** 5234 → "5.2k", 1234567 → "1.2M". */
export function compact(n: number): string {
  const [divisor, unit] = n >= 999_500 ? [1e6, 'M'] : n >= 1000 ? [1e3, 'k'] : [1, '']
  const scaled = n / divisor
  return (scaled < 10 && unit !== '' ? scaled.toFixed(1) : scaled.toFixed(0)) + unit
}

/** At most four significant digits, an exponent where a plain number would be long: 0.8, 1.195, 2e-4. */
export function figure(value: number | null | undefined): string {
  if (value === undefined) return '–'
  if (value === null) return 'not finite'
  if (value === 0) return '0'
  const size = Math.abs(value)
  if (size < 0.001 || size >= 1e6)
    return value
      .toExponential(3)
      .replace(/\.?0+e/, 'e')
      .replace('e+', 'e')
  return String(Number(value.toPrecision(4)))
}

/** A loss with four significant digits, so that a column of them lines up: 0.2480. */
export function loss(value: number | null | undefined): string {
  const plain = typeof value === 'number' && Math.abs(value) >= 0.001 && Math.abs(value) < 1000
  return plain ? value.toPrecision(4) : figure(value)
}

/** A share of one with three decimals: 0.820. */
export const share = (value: number | null | undefined) => (typeof value === 'number' ? value.toFixed(3) : figure(value))

/** Seconds as the two largest units that matter: "45 s", "12 min", "2 h 5 min", "3 d 4 h". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds))
  if (s === 0) return '< 1 s'
  if (s < 60) return `${s} s`
  const minutes = Math.round(s / 60)
  if (s < 600 && s % 60 !== 0) return `${Math.floor(s / 60)} min ${s % 60} s`
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`
  return hours % 24 === 0 ? `${Math.floor(hours / 24)} d` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** Seconds with decimals where there are few: "0.42 s", "12 min". */
export const seconds = (s: number) => (s < 10 ? `${Number(s.toPrecision(2))} s` : duration(s))

/** How long ago, coarse: "just now", "12 min ago". */
export function age(then: number, now: number): string {
  const s = now - then
  if (s < 10) return 'just now'
  if (s < 60) return `${Math.floor(s)} s ago`
  if (s < 3600) return `${Math.floor(s / 60)} min ago`
  if (s < 86_400) return `${Math.floor(s / 3600)} h ago`
  return `${Math.floor(s / 86_400)} d ago`
}

/** 1536 → "1.5 KiB". */
export function bytes(n: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024
    unit += 1
  }
  return `${unit === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1)} ${units[unit]}`
}

/** Unix seconds as a local date and time. */
export const dateTime = (seconds: number) => new Date(seconds * 1000).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' })

/** Unix seconds as a local time of day. */
export const time = (seconds: number) => new Date(seconds * 1000).toLocaleTimeString('en-GB')

/** A setting of any type as text, its numbers by `number`; "–" where there is none. */
export function setting(value: unknown, number: (n: number) => string): string {
  if (typeof value === 'number') return number(value)
  if (typeof value === 'string') return value
  if (typeof value === 'boolean') return String(value)
  if (Array.isArray(value)) return value.map((one) => setting(one, number)).join(', ') || '–'
  if (typeof value !== 'object' || value === null) return '–'
  const pairs = Object.entries(value).map(([key, one]) => `${key}: ${setting(one, number)}`)
  return pairs.join(', ') || '–'
}
