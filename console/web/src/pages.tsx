// Workloads, sources, rules, one detection, about, login.
import { useState } from "preact/hooks";
import { get, list, post, remove, type Check, type Container, type Coverage, type Detection, type Rule, type Session, type Silence, type Source, type Workload } from "./api";
import { count, stamp } from "./format";
import { RuleText } from "./incident";
import { Markdown } from "./markdown";
import { go, Link } from "./route";
import { Chip, Empty, me, Oops, useLoad, When } from "./ui";

export function Workloads(p: { version: number }) {
  const q = new URLSearchParams(location.search), search = q.get("search") ?? "", learning = q.get("learning") === "true";
  const { data, error } = useLoad(() => list<Workload>("/workloads"), "workloads", p.version);
  const containers = useLoad(() => list<Container>("/containers"), "containers", p.version).data?.items ?? [];
  const by = new Map<string, Container[]>();
  for (const c of containers) by.set(c.workload, [...(by.get(c.workload) ?? []), c]);
  const known = new Set(data?.items.map((w) => w.workload));
  const silent = containers.filter((c) => !known.has(c.workload));
  const shown = (data?.items ?? []).filter((w) => (!learning || w.learning) && w.workload.toLowerCase().includes(search.toLowerCase()));
  const address = (text: string, l: boolean) => "/workloads?" + new URLSearchParams({ ...(text && { search: text }), ...(l && { learning: "true" }) });
  return (
    <>
      <h1>Workloads</h1>
      <p class="note">A workload is what stays the same when containers are replaced. What is normal is learned for each; until then findings are marked “learning”.</p>
      <div class="bar">
        <nav class="tabs" aria-label="Which workloads"><Link to={address(search, false)} current={!learning}>All</Link><Link to={address(search, true)} current={learning}>Learning</Link></nav>
        <input type="search" aria-label="Search workloads" placeholder="Search" value={search} onInput={(e) => go(address(e.currentTarget.value, learning), true)} />
      </div>
      <Oops error={error} />
      {data && shown.length === 0 && <Empty title="No workload"><p>{data.items.length ? "None matches." : "No container has been seen or heard yet. "}<Link to="/sources">What is seen, and why not</Link></p></Empty>}
      {shown.length > 0 && <div class="scroll"><table>
        <thead><tr><th>workload</th><th>state</th><th>containers now</th><th>image</th><th>first seen</th><th>last flow</th></tr></thead>
        <tbody>{shown.map((w) => {
          const of = by.get(w.workload) ?? [];
          return (
            <tr key={w.workload}>
              <th scope="row" class="workload">{w.workload}</th>
              <td>{w.learning ? <Chip kind="learning">learning</Chip> : <Chip kind="ready">ready</Chip>}{w.learning && w.ready_at > Date.now() * 1e6 && <span class="note"> ready <When at={w.ready_at} /> at the earliest</span>}</td>
              <td>{of.map((c) => c.name).join(", ") || "none"}</td><td>{[...new Set(of.map((c) => c.image))].join(", ")}</td>
              <td>{w.first_seen ? <When at={w.first_seen} /> : "never"}</td><td>{w.last_seen ? <When at={w.last_seen} /> : "none seen"}</td>
            </tr>
          );
        })}</tbody>
      </table></div>}
      {data?.more && <p class="note">These are the first 1000.</p>}
      {silent.length > 0 && <><h2>Running, and not heard of yet</h2><p class="note">{silent.slice(0, 50).map((c) => c.name).join(", ")}</p></>}
    </>
  );
}

export function Sources(p: { version: number }) {
  const sources = useLoad(() => list<Source>("/sources"), "sources", p.version);
  const checks = useLoad(() => list<Check>("/doctor"), "doctor", p.version).data?.items ?? [];
  const gaps = useLoad(() => list<Coverage>("/coverage?gaps=true"), "gaps", p.version);
  const names = new Set(sources.data?.items.map((s) => s.name));
  const grouped = new Map<string, Coverage[]>();
  for (const g of gaps.data?.items ?? []) { const k = g.detector + "\n" + g.reason; grouped.set(k, [...(grouped.get(k) ?? []), g]); }
  return (
    <>
      <h1>Why is there no data?</h1>
      <h2>Sources</h2>
      <Oops error={sources.error} />
      {sources.data?.items.length === 0 && <Empty title="Nothing is watched"><p>Name interfaces (<code>flow.interfaces</code>), point a router's export at <code>flow.netflow</code>, or let the monitor read the engine's socket (<code>enrich.docker</code>).</p></Empty>}
      <ul class="sources">{sources.data?.items.map((s) => (
        <li key={s.name}>
          <Chip kind={s.state}>{s.state}</Chip>
          <div>
            <b>{s.name}</b> <span class="note">{s.kind}{s.records ? `, ${count(s.records)} records` : ""}{s.last_seen ? <>, heard <When at={s.last_seen} /></> : ""}{s.sampling && s.sampling > 1 ? `, sampling 1:${s.sampling}` : ""}{s.dropped ? `, ${count(s.dropped)} dropped` : ""}</span>
            {s.reason && <p>{s.reason}</p>}
            {s.fix && <p class="fix">What to do: {s.fix}</p>}
          </div>
        </li>
      ))}</ul>
      <h2>What cannot be seen</h2>
      <Oops error={gaps.error} />
      {gaps.data?.items.length === 0 && <p>Every detection can see every workload.</p>}
      <ul class="sources">{[...grouped.values()].map((of) => (
        <li>
          <Chip kind="fail">{of[0]!.detector}</Chip>
          <div><b>{of[0]!.reason}</b>{of[0]!.fix && <p class="fix">What to do: {of[0]!.fix}</p>}
            <details><summary>{of.length} {of.length === 1 ? "workload" : "workloads"}</summary><p class="workload">{of.map((c) => c.workload).join(", ")}</p></details></div>
        </li>
      ))}</ul>
      <h2>Other checks</h2>
      <ul class="sources">{checks.filter((c) => !names.has(c.what)).map((c) => <li><Chip kind={c.state}>{c.state}</Chip><div><b>{c.what}</b> {c.reason}{c.fix && <p class="fix">What to do: {c.fix}</p>}</div></li>)}</ul>
    </>
  );
}

export function Rules(p: { version: number; refresh: () => void }) {
  const rules = useLoad(() => list<Rule>("/allow"), "rules", p.version), silences = useLoad(() => list<Silence>("/silences"), "silences", p.version);
  const [failed, setFailed] = useState<unknown>();
  const drop = (path: string) => remove(`${path}?by=${encodeURIComponent(me() || "console")}`).then(() => { setFailed(undefined); p.refresh(); }, setFailed);
  const now = Date.now();
  return (
    <>
      <h1>Allow rules and silences</h1>
      <Oops error={failed ?? rules.error ?? silences.error} />
      <h2>Allowed: not found any more</h2>
      {rules.data?.items.length === 0 && <Empty title="No rules"><p>Open an incident and press <kbd>x</kbd>: you see what the rule would have hidden before it holds.</p></Empty>}
      <ul class="sources">{rules.data?.items.map((r) => (
        <li key={r.id}>
          <Chip>{r.id}</Chip>
          <div><b><RuleText rule={r} /></b><p>{r.comment} <span class="note">{r.owner}, <When at={r.created} />; {r.hits === 0 ? "never used" : `used ${r.hits === 1 ? "once" : `${r.hits} times`}, last `}{r.last_hit && <When at={r.last_hit} />}{r.expires && <>; ends <When at={r.expires} /></>}</span></p></div>
          <button type="button" onClick={() => drop(`/allow/${r.id}`)} aria-label={`Remove rule ${r.id}`}>Remove</button>
        </li>
      ))}</ul>
      <h2>Silenced: found and shown, nobody is told</h2>
      {silences.data?.items.length === 0 && <p class="note">None. <code>wharfwatch silence add 'workload=~compose:shop/.*' --for 2h -m why</code> adds one.</p>}
      <ul class="sources">{silences.data?.items.map((s) => (
        <li key={s.id}>
          <Chip>{s.id}</Chip>
          <div><b>{s.matchers.map((m) => `${m.label}${m.op}${m.value}`).join(" and ")}</b><p>{s.comment} <span class="note">{s.author}, {new Date(s.ends).getTime() < now ? "ended" : "until"} {stamp(s.ends)}</span></p></div>
          {new Date(s.ends).getTime() >= now && <button type="button" onClick={() => drop(`/silences/${s.id}`)} aria-label={`End silence ${s.id}`}>End</button>}
        </li>
      ))}</ul>
    </>
  );
}

export function DetectionPage(p: { id: string }) {
  const { data, error } = useLoad(() => get<Detection>(`/detections/${encodeURIComponent(p.id)}`), p.id, 0);
  return <><Oops error={error} />{data && <Markdown text={data.text} />}</>;
}

export function About(p: { session: Session; leave: () => void }) {
  const { data } = useLoad(() => list<Detection>("/detections"), "detections", 0);
  const licences = document.querySelector<HTMLMetaElement>("meta[name=licences]")?.content;
  const [theme, setTheme] = useState(localStorage.getItem("theme") ?? "");
  return (
    <>
      <h1>About</h1>
      <h2>Keys</h2>
      <dl class="keys">{[["j k", "next, previous"], ["Enter", "open"], ["a", "acknowledge"], ["x", "allow, with preview"], ["c", "close"], ["r", "reopen"], ["u", "back to the inbox"], ["/", "search"], ["?", "this page"]]
        .map(([k, what]) => <><dt>{k!.split(" ").map((one) => <kbd>{one}</kbd>)}</dt><dd>{what}</dd></>)}</dl>
      <h2>Looks</h2>
      <label class="choice">Colours <select value={theme} onChange={(e) => { setTheme(e.currentTarget.value); localStorage.setItem("theme", e.currentTarget.value); dress(); }}>
        <option value="">as the system</option><option value="light">light</option><option value="dark">dark</option></select></label>
      {!p.session.name && <label class="choice">Your name, for the history <input maxLength={64} value={me()} onChange={(e) => localStorage.setItem("name", e.currentTarget.value)} /></label>}
      {p.session.name && <p>Logged in as <b>{p.session.name}</b>, who may {p.session.scope}. <button type="button" onClick={() => remove("/session").finally(p.leave)}>Log out</button></p>}
      <h2>Detections</h2>
      <ul>{data?.items.map((d) => <li><Link to={`/detections/${d.id}`}>{d.id}</Link>: {d.title}</li>)}</ul>
      <h2>More</h2>
      <ul><li><a href="/metrics">Metrics</a></li>{licences && <li><a href={licences}>Licences of what this console is made with</a></li>}</ul>
    </>
  );
}

// dress wears the chosen colours.
export function dress() {
  const theme = localStorage.getItem("theme");
  if (theme) document.documentElement.dataset.theme = theme; else delete document.documentElement.dataset.theme;
}

export function Login(p: { done: (s: Session) => void }) {
  const [error, setError] = useState<unknown>();
  return (
    <form class="login" onSubmit={async (e) => {
      e.preventDefault();
      const f = new FormData(e.currentTarget as HTMLFormElement);
      try { p.done(await post<Session>("/session", { name: f.get("name"), password: f.get("password") })); } catch (e) { setError(e); }
    }}>
      <h1>Wharfwatch</h1>
      <label>Name<input name="name" autocomplete="username" required autofocus /></label>
      <label>Password<input name="password" type="password" autocomplete="current-password" required /></label>
      <Oops error={error} />
      <button type="submit" class="primary">Log in</button>
      <p class="note">The first start of the monitor printed a password. <code>wharfwatch access password admin</code> on its host makes another.</p>
    </form>
  );
}
