// Numbers and times as people read them, with their units.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const UNKNOWN = "–";

export const count = (value) => (value == null ? UNKNOWN : whole.format(value));

export function plural(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** A decimal string with its thousands apart, every digit kept: -1,216.25. */
export const amount = (text) => String(text).replace(/^-?\d+/, (digits) => digits.replace(/\B(?=(\d{3})+$)/g, ","));

/** A rate a second: 0.4, 12.5, 4,998. */
export function rate(value) {
  if (value == null) return UNKNOWN;
  return (value < 100 ? tenth : whole).format(value);
}

/** Seconds as 4.2 ms, 46 ms, 1.25 s. */
export function latency(seconds) {
  if (seconds == null) return UNKNOWN;
  if (seconds >= 1) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const milliseconds = seconds * 1000;
  return `${milliseconds < 10 ? tenth.format(milliseconds) : whole.format(milliseconds)} ms`;
}

/** Seconds as 12 s, 4 min, 3 h 20 min, 2 d 4 h. */
export function duration(seconds) {
  if (seconds == null) return UNKNOWN;
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (minutes === 0) return `${Math.floor(seconds)} s`;
  if (hours === 0) return `${minutes} min`;
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A size as 512 B, 4.2 kB, 36 MB. */
export function size(bytes) {
  if (bytes == null) return UNKNOWN;
  let rest = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (rest < 1000) return `${(rest < 10 ? tenth : whole).format(rest)} ${unit}`;
    rest /= 1000;
  }
  return `${(rest < 10 ? tenth : whole).format(rest)} TB`;
}

/** 04:31 of Unix seconds, in UTC. */
export const minute = (seconds) => utc(seconds * 1000).slice(11, 16);

/** 2026-11-23 04:30:00.123 of Unix milliseconds, in UTC; a time that no calendar has is shown as its number. */
export function utc(milliseconds) {
  const date = new Date(milliseconds);
  return Number.isNaN(date.valueOf()) ? String(milliseconds) : date.toISOString().replace("T", " ").replace("Z", "");
}

export const clock = (date) => date.toTimeString().slice(0, 8);

/** Partition numbers as ranges: 0–3, 6. */
export function ranges(numbers) {
  const runs = [];
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
}
