// Numbers and times for people.

export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let i = 0;
  while (Math.abs(n) >= 1000 && i < units.length - 1) { n /= 1000; i++; }
  return `${i === 0 ? n : Number(n.toPrecision(3))} ${units[i]}`;
}

export function seconds(s: number): string {
  const a = Math.abs(s);
  if (a < 1) return `${Number((s * 1000).toPrecision(3))} ms`;
  if (a < 120) return `${Number(s.toPrecision(3))} s`;
  if (a < 7200) return `${Number((s / 60).toPrecision(3))} min`;
  if (a < 172800) return `${Number((s / 3600).toPrecision(3))} h`;
  return `${Number((s / 86400).toPrecision(3))} d`;
}

export const count = (n: number) => (Number.isInteger(n) ? n : Number(n.toPrecision(4))).toLocaleString("en");
export const percent = (n: number) => `${Number((n * 100).toPrecision(n > .99 && n < 1 ? 4 : 2))} %`;

const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;
export const looksLikeTime = (v: unknown): v is string => typeof v === "string" && isTime.test(v);

// stamp is a time in UTC, as in the logs.
export function stamp(t: string | number): string {
  const d = typeof t === "number" ? new Date(t / 1e6) : new Date(t);
  return isNaN(d.getTime()) ? String(t) : d.toISOString().slice(0, 19).replace("T", " ") + " UTC";
}

export function ago(t: string | number): string {
  const s = (Date.now() - (typeof t === "number" ? t / 1e6 : new Date(t).getTime())) / 1000;
  if (isNaN(s)) return "";
  const rough = (v: number) => (v < 60 ? `${Math.round(v)} s` : v < 3600 ? `${Math.round(v / 60)} min` : v < 172800 ? `${Math.round(v / 3600)} h` : `${Math.round(v / 86400)} d`);
  return s < 0 ? `in ${rough(-s)}` : s < 5 ? "now" : `${rough(s)} ago`;
}

// named formats a number by what its name says of its unit.
export function named(name: string, v: number): string {
  if (/bytes/.test(name)) return bytes(v);
  if (/seconds/.test(name)) return seconds(v);
  if (/percent/.test(name)) return `${count(v)} %`;
  if (/(share|prevalence)$/.test(name) && v <= 1) return percent(v);
  return count(v);
}

export const words = (name: string) => name.replace(/_/g, " ");
