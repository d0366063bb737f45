// One incident: who, what, since when, why it is not normal, how sure, what to do.
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { get, list, post, type Card, type Container, type Detection, type Incident, type Rule, type Session } from "./api";
import { Evidence } from "./evidence";
import { percent, stamp } from "./format";
import { typing } from "./inbox";
import { Markdown, section } from "./markdown";
import { go, Link } from "./route";
import { Chip, Dialog, me, Name, Oops, Severity, useLoad, When } from "./ui";

type Asked = "close" | "allow" | undefined;

export function IncidentPage(p: { id: string; version: number; session: Session; refresh: () => void }) {
  const { data: i, error } = useLoad(() => get<Card>(`/incidents/${encodeURIComponent(p.id)}`), p.id, p.version);
  const [asked, ask] = useState<Asked>(new URLSearchParams(location.search).get("do") === "allow" ? "allow" : undefined);
  const [failed, setFailed] = useState<unknown>();
  const by = me() || "console";
  const act = (verb: string) => i && post(`/incidents/${i.id}/${verb}`, { by }).then(() => { setFailed(undefined); p.refresh(); }, setFailed);

  useLayoutEffect(() => { // at once: the next key may follow soon
    const key = (e: KeyboardEvent) => {
      if (typing(e) || !i) return;
      if (e.key === "a" && i.state === "open") act("ack");
      else if (e.key === "c" && i.state !== "closed") ask("close");
      else if (e.key === "x" && i.state !== "closed") { e.preventDefault(); ask("allow"); }
      else if (e.key === "r" && i.state === "closed") act("reopen");
      else if (e.key === "u" || e.key === "Escape") go("/");
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  });
  useEffect(() => { if (i) document.title = `${i.container.name || i.workload} · Wharfwatch`; }, [i?.id]);
  if (!i) return error ? <Oops error={error} /> : <p class="note">…</p>;

  const counting = i.findings.filter((f) => f.generation === i.generation && !f.allowed);
  const findings = counting.length ? counting : i.findings;
  const detectors = [...new Set(findings.map((f) => f.detector))];
  return (
    <article class="incident">
      <header>
        <p><Severity level={i.severity} /> <Chip kind={i.state}>{i.verdict ? `${i.state}: ${i.verdict}` : i.state}</Chip>
          {i.silenced_until && <Chip>silenced until {stamp(i.silenced_until)}</Chip>} {detectors.map((d) => <Chip><Link to={`/detections/${d}`}>{d}</Link></Chip>)}
          {findings.some((f) => f.learning) && <Chip kind="learning">learning</Chip>}</p>
        <h1>{i.summary}</h1>
        <div class="buttons">
          {i.state === "open" && <button type="button" class="primary" onClick={() => act("ack")}>Acknowledge <kbd>a</kbd></button>}
          {i.state !== "closed" && <button type="button" onClick={() => ask("close")}>Close… <kbd>c</kbd></button>}
          {i.state !== "closed" && <button type="button" onClick={() => ask("allow")}>Allow… <kbd>x</kbd></button>}
          {i.state === "closed" && <button type="button" class="primary" onClick={() => act("reopen")}>Reopen <kbd>r</kbd></button>}
        </div>
        <Oops error={failed ?? error} />
      </header>

      <div class="columns">
        <section>
          <h2>Who</h2>
          <Who incident={i} />
        </section>
        <section>
          <h2>Since when, how sure</h2>
          <dl>
            <dt>First seen</dt><dd>{stamp(i.first_seen)} (<When at={i.first_seen} />)</dd>
            <dt>Last seen</dt><dd>{stamp(i.last_seen)}{i.count > 1 && `, told ${i.count} times`}{i.quiet ? `, ${i.quiet} kept quiet` : ""}</dd>
            <dt>Sure</dt><dd><meter min={0} max={1} value={i.confidence} aria-label="confidence">{percent(i.confidence)}</meter> {percent(i.confidence)}</dd>
            <dt>Container named</dt><dd>{i.attribution.method === "none" ? "by the engine" : `by ${i.attribution.method}`}, confidence {i.attribution.confidence}</dd>
            {i.attack.length > 0 && <><dt>ATT&amp;CK</dt><dd>{i.attack.map((t) => <><a rel="noreferrer" href={`https://attack.mitre.org/techniques/${t.replace(".", "/")}/`}>{t}</a> </>)}</dd></>}
          </dl>
        </section>
      </div>

      <section>
        <h2>Why it is not normal</h2>
        {findings.map((f) => (
          <div class="card" key={f.id}>
            <h3><Severity level={f.severity} /> {f.detector}: {f.subject}</h3>
            <p>{f.summary}</p>
            <p class="note">{stamp(f.time)} · score {percent(f.score)}{f.learning && " · the workload is still being learned"}{(f.count ?? 1) > 1 && ` · seen ${f.count} times`}</p>
            <Evidence finding={f} />
          </div>
        ))}
        {i.omitted ? <p class="note">{i.omitted} more are counted and not listed.</p> : null}
      </section>

      {detectors.map((d) => <Answer id={d} />)}
      <Timeline incident={i} />
      {asked === "close" && <Close incident={i} session={p.session} onClose={() => ask(undefined)} done={p.refresh} />}
      {asked === "allow" && i.state !== "closed" && <Allow incident={i} session={p.session} onClose={() => ask(undefined)} done={p.refresh} />}
    </article>
  );
}

function Who(p: { incident: Card }) {
  const i = p.incident;
  const { data } = useLoad(() => list<Container>(`/containers?all=true&limit=1000&workload=${encodeURIComponent(i.workload)}`), i.workload, 0);
  const c = data?.items.find((c) => c.id === i.container.id);
  const posture = Object.entries(c?.posture ?? {}).filter(([, v]) => v && !(Array.isArray(v) && v.length === 0));
  return (
    <dl>
      <dt>Workload</dt><dd><Link to={`/workloads?search=${encodeURIComponent(i.workload)}`} class="workload">{i.workload}</Link></dd>
      <dt>Container</dt><dd>{i.container.name || "none"} {i.container.id && <code title={i.container.id}>{i.container.id.slice(0, 12)}</code>}</dd>
      <dt>Image</dt><dd>{i.container.image || "unknown"}</dd>
      {c && <><dt>Started</dt><dd>{c.started ? stamp(c.started) : "not known"}{c.running ? "" : ", ended"}</dd>
        <dt>Network</dt><dd>{c.network_mode || "not known"}</dd></>}
      {posture.length > 0 && <><dt>Settings</dt><dd>{posture.map(([k, v]) => <Chip>{k}{v === true ? "" : `: ${Array.isArray(v) ? v.map((e) => (typeof e === "object" ? JSON.stringify(e) : e)).join(", ") : typeof v === "object" ? JSON.stringify(v) : String(v)}`}</Chip>)}</dd></>}
      {data && data.items.length > 1 && <><dt>Others of it</dt><dd>{data.items.filter((o) => o !== c).slice(0, 8).map((o) => o.name).join(", ")}</dd></>}
    </dl>
  );
}

// Answer is what the page of the detection says to do.
function Answer(p: { id: string }) {
  const { data } = useLoad(() => get<Detection>(`/detections/${encodeURIComponent(p.id)}`), p.id, 0);
  if (!data) return null;
  const response = section(data.text, "Response"), harmless = section(data.text, "False positives");
  return (
    <section>
      <h2>What to do: {p.id}</h2>
      {response && <Markdown text={response} />}
      {harmless && <details><summary>When it is harmless</summary><Markdown text={harmless} /></details>}
      <p><Link to={`/detections/${p.id}`}>The whole page: how it works, what it cannot see, how to stage it</Link></p>
    </section>
  );
}

function Timeline(p: { incident: Card }) {
  const i = p.incident;
  const events = [
    ...i.findings.map((f) => ({ at: f.time, what: f.summary, who: f.detector })),
    ...i.history.map((h) => ({ at: h.at, what: h.what + (h.why ? `: ${h.why}` : ""), who: h.who })),
    ...i.deliveries.map((d) => ({ at: d.last ?? d.created, what: `${d.transition} ${d.state}${d.status ? ` (${d.status})` : ""}${d.reason ? `: ${d.reason}` : ""}`, who: `to ${d.receiver}` })),
  ].sort((a, b) => a.at.localeCompare(b.at));
  return (
    <section>
      <h2>Timeline</h2>
      <ol class="timeline">{events.map((e) => <li><time>{stamp(e.at)}</time> <b>{e.who}</b> {e.what}</li>)}</ol>
    </section>
  );
}

interface Asking { incident: Incident; session: Session; onClose: () => void; done: () => void }

const verdicts = [["true-positive", "it was an attack or a breach of the rules"], ["benign", "it is true, and allowed"], ["false-positive", "it is not true"], ["duplicate", "another incident says it"]];

function Close(p: Asking) {
  return (
    <Dialog title="Close as" action="Close" onClose={p.onClose} onSubmit={async (f) => {
      await post(`/incidents/${p.incident.id}/close`, { verdict: f.get("verdict"), comment: f.get("comment"), by: f.get("by") || "console" });
      p.done();
    }}>
      <fieldset><legend class="hidden">Verdict</legend>{verdicts.map(([v, why]) => <label class="choice"><input type="radio" name="verdict" value={v} required /> <b>{v}</b> {why}</label>)}</fieldset>
      <label>Why<textarea name="comment" rows={2} maxLength={1000} /></label>
      <Name session={p.session.name} />
    </Dialog>
  );
}

function Allow(p: Asking) {
  const { data, error } = useLoad(() => post<{ items: Incident[]; rules: Rule[] }>("/allow/preview", { from: p.incident.id }), p.incident.id, 0);
  const meant = data?.items.filter((i) => i.verdict === "true-positive").length ?? 0;
  return (
    <Dialog title="Allow this from now on" action="Allow" onClose={p.onClose} disabled={!data} onSubmit={async (f) => {
      await post("/allow", { from: p.incident.id, rule: { comment: f.get("comment") }, by: f.get("by") || "console" });
      p.done();
    }}>
      <Oops error={error} />
      {data && <div id="preview">
        <p>{data.rules.length === 1 ? "This rule is added:" : `These ${data.rules.length} rules are added:`}</p>
        <ul>{data.rules.map((r) => <li><RuleText rule={r} /></li>)}</ul>
        <p><b>{data.rules.length === 1 ? "It" : "They"} would have hidden {data.items.length === 1 ? "1 incident" : `${data.items.length} incidents`}</b>{data.items.length > 0 && ":"}</p>
        <ul>{data.items.slice(0, 5).map((i) => <li><Severity level={i.severity} /> {i.summary}</li>)}</ul>
        {meant > 0 && <p class="problem">{meant} of them you closed as true-positive.</p>}
      </div>}
      <label>Why is this expected?<textarea name="comment" rows={2} required maxLength={1000} /></label>
      <Name session={p.session.name} />
    </Dialog>
  );
}

export function RuleText(p: { rule: Rule }) {
  const r = p.rule;
  return <>{[r.detector ?? "any detection", "of", r.workload ?? "any workload", r.subject && `about ${r.subject}`,
    r.direction, r.destination && `to ${r.destination}`, r.port && `port ${r.port}`].filter(Boolean).join(" ")}</>;
}
