// Numbers in words. A number and its unit stay on one line.

const SPACE = "\u00a0";

/** A score in [0, 1]; never 0 % or 100 %, which a network cannot know. */
export function percent(score) {
  if (score < 0.01) return `under 1${SPACE}%`;
  if (score > 0.99) return `over 99${SPACE}%`;
  return `${Math.round(100 * score)}${SPACE}%`;
}

/** What a score of the best class is worth. */
export function sureness(score) {
  if (score >= 0.9) return "very likely";
  if (score >= 0.6) return "likely";
  return score >= 0.3 ? "perhaps" : "a guess";
}

/** A time in the video. */
export function clock(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)}${SPACE}s`;
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}${SPACE}min`;
}

/** Three digits that count, without zeros at the end. */
export const short = (number) => String(Number(number.toPrecision(3)));

export function milliseconds(ms) {
  if (ms >= 9950) return `${Math.round(ms / 1000)}${SPACE}s`;
  return ms >= 995 ? `${(ms / 1000).toFixed(1)}${SPACE}s` : `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)}${SPACE}ms`;
}

export function bytes(count) {
  return count < 1e6 ? `${Math.ceil(count / 1e3)}${SPACE}kB` : `${(count / 1e6).toFixed(1)}${SPACE}MB`;
}

export function counted(count, noun, many = `${noun}s`) {
  return `${count} ${count === 1 ? noun : many}`;
}

/** A sentence's first letter large. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** A budget, a share of all that a model can spend; null if it has none. */
export const percentOf = (budget) => (budget === null ? "all" : `${Math.round(100 * budget)}${SPACE}%`);
