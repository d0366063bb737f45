// Why it is not normal: each number beside what it was held against, and a picture where one says more.
import type { Finding } from "./api";
import { looksLikeTime, named, seconds, stamp, words } from "./format";

type Row = { name: string; seen: unknown; beside?: string };

// beside finds what a number was held against, by the names that detectors give it.
const relations: [RegExp, string][] = [
  [/^(expected|usual|normal|baseline|typical)_(.*)$/, "usual"], [/^(.*)_(expected|usual|baseline)$/, "usual"],
  [/^(threshold|min|least)_(.*)$/, "told from"], [/^(.*)_(threshold|limit)$/, "told from"],
  [/^(floor)_(.*)$/, "never told below"], [/^(peak)_(.*)$/, "highest before"], [/^(previous)_(.*)$/, "before"],
];

export function rows(evidence: Record<string, unknown>): Row[] {
  const used = new Map<string, string[]>(), out: Row[] = [];
  for (const [key, value] of Object.entries(evidence)) {
    if (typeof value !== "number") continue;
    for (const [pattern, word] of relations) {
      const m = pattern.exec(key);
      const of = m && [m[1], m[2]].find((k) => k !== undefined && k !== key && typeof evidence[k] === "number");
      if (of) {
        used.set(of, [...(used.get(of) ?? []), `${word} ${named(key, value)}`]);
        used.set(key, used.get(key) ?? []);
        evidence = { ...evidence };
        delete evidence[key];
        break;
      }
    }
  }
  for (const [name, seen] of Object.entries(evidence)) out.push({ name, seen, beside: used.get(name)?.join("; ") });
  return out.filter((r) => r.seen !== "" && r.seen !== null).sort((a, b) => Number(!a.beside) - Number(!b.beside));
}

export function Value(p: { name: string; value: unknown }) {
  const v = p.value;
  if (typeof v === "number") return <span title={String(v)}>{named(p.name, v)}</span>;
  if (typeof v === "boolean") return <>{v ? "yes" : "no"}</>;
  if (looksLikeTime(v)) return <>{stamp(v)}</>;
  if (Array.isArray(v)) {
    if (v.length && v.every((e) => typeof e === "object" && e !== null)) {
      const keys = [...new Set(v.flatMap((e) => Object.keys(e as object)))];
      return <table><thead><tr>{keys.map((k) => <th>{words(k)}</th>)}</tr></thead>
        <tbody>{v.map((e) => <tr>{keys.map((k) => <td><Value name={k} value={(e as Record<string, unknown>)[k]} /></td>)}</tr>)}</tbody></table>;
    }
    if (/prevalence$/.test(p.name) && v.length === 2) return <>{`${v[0]} of ${v[1]} workloads`}</>;
    return <>{v.map((e) => (typeof e === "number" ? named(p.name, e) : String(e))).join(", ")}</>;
  }
  if (typeof v === "object" && v !== null) return <code>{JSON.stringify(v)}</code>;
  return <>{String(v ?? "")}</>;
}

export function Evidence(p: { finding: Finding }) {
  const e = p.finding.evidence, list = rows(e);
  const compared = list.some((r) => r.beside);
  return (
    <>
      <Picture evidence={e} />
      <div class="scroll">
        <table class="evidence">
          <thead><tr><th>what</th><th>seen</th>{compared && <th>held against</th>}</tr></thead>
          <tbody>{list.map((r) => (
            <tr class={r.beside ? "compared" : ""}><th scope="row">{words(r.name)}</th><td><Value name={r.name} value={r.seen} /></td>{compared && <td>{r.beside}</td>}</tr>
          ))}</tbody>
        </table>
      </div>
    </>
  );
}

function Picture(p: { evidence: Record<string, unknown> }) {
  const { intervals, period_seconds: period, bytes, expected_bytes: expected, floor_bytes: floor } = p.evidence;
  if (Array.isArray(intervals) && intervals.length > 2 && intervals.every((n) => typeof n === "number") && typeof period === "number") {
    return <Beats intervals={intervals as number[]} period={period} />;
  }
  if (typeof bytes === "number" && typeof expected === "number") {
    const bars: [string, number][] = [["seen", bytes], ["usual", expected]];
    if (typeof floor === "number") bars.push(["floor", floor]);
    return <Bars bars={bars} name="bytes" />;
  }
  return null;
}

// Beats draws each interval between calls as a bar, with a line at the period.
function Beats(p: { intervals: number[]; period: number }) {
  const top = Math.max(p.period * 1.3, ...p.intervals), w = 600, h = 110, step = w / p.intervals.length;
  const y = (v: number) => h - (v / top) * h;
  const text = `${p.intervals.length} intervals between calls, from ${seconds(Math.min(...p.intervals))} to ${seconds(Math.max(...p.intervals))}; the period is ${seconds(p.period)}`;
  return (
    <figure>
      <svg viewBox={`0 -14 ${w} ${h + 14}`} role="img" aria-label={text} class="picture">
        <title>{text}</title>
        {p.intervals.map((v, i) => <rect x={i * step + 1} y={y(v)} width={Math.max(1, step - 2)} height={h - y(v)}><title>{seconds(v)}</title></rect>)}
        <line x1="0" x2={w} y1={y(p.period)} y2={y(p.period)} />
        <text x="2" y="-3">{`period ${seconds(p.period)}`}</text>
      </svg>
      <figcaption>{text}</figcaption>
    </figure>
  );
}

// Bars compares on a logarithmic scale.
function Bars(p: { bars: [string, number][]; name: string }) {
  const log = (v: number) => Math.log10(Math.max(1, v)), top = Math.max(1, ...p.bars.map(([, v]) => log(v))), w = 600, left = 60;
  const text = p.bars.map(([what, v]) => `${what} ${named(p.name, v)}`).join(", ") + " (logarithmic)";
  return (
    <figure>
      <svg viewBox={`0 0 ${w} ${p.bars.length * 30}`} role="img" aria-label={text} class="picture">
        <title>{text}</title>
        {p.bars.map(([what, v], i) => {
          const length = (log(v) / top) * (w - left - 110);
          return <g class={what}><text x="0" y={i * 30 + 19}>{what}</text><rect x={left} y={i * 30 + 5} width={Math.max(2, length)} height="20" />
            <text x={left + length + 8} y={i * 30 + 19}>{named(p.name, v)}</text></g>;
        })}
      </svg>
      <figcaption>{text}</figcaption>
    </figure>
  );
}
