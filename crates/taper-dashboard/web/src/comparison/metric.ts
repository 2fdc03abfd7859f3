import { loss, share } from '../format'

const names: Record<string, string> = {
  train_loss: 'Training loss',
  valid_loss: 'Validation loss',
  valid_accuracy: 'Validation accuracy',
  valid_macro_f1: 'Macro F1',
  valid_perplexity: 'Perplexity',
  valid_mean_token_accuracy: 'Token accuracy',
}

/** A figure's name for people. */
export const metricName = (metric: string) => names[metric] ?? metric

/** Whether a smaller value is the better one. */
export const isBetterSmall = (metric: string) => /loss|perplexity/.test(metric)

/** Shares of one have a fixed number of decimals, all else four significant digits. */
export const metricFormat = (metric: string) => (/accuracy|f1/.test(metric) ? share : loss)

/** A difference with its sign, as exact as the figure itself: "−0.012". */
export function signed(difference: number, metric: string): string {
  const size = Math.abs(difference)
  const text = /accuracy|f1/.test(metric) ? size.toFixed(3) : size < 10 ? size.toPrecision(2) : size.toFixed(0)
  if (Number(text) === 0) return '0'
  return (difference < 0 ? '−' : '+') + text
}
