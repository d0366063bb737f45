// The inbox: what is open, the most severe first.
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { get, list, post, type Check, type Incident, type Session, type Source, type Workload } from "./api";
import { go, Link } from "./route";
import { Chip, Empty, Oops, Severity, useLoad, When, me } from "./ui";
import { percent } from "./format";

const views = { active: "Open", closed: "Closed", all: "All" } as const;

export function Inbox(p: { version: number; session: Session; refresh: () => void }) {
  const q = new URLSearchParams(location.search);
  const view = (q.get("state") ?? "active") as keyof typeof views, search = q.get("search") ?? "";
  const { data, error } = useLoad(() => list<Incident>(`/incidents?limit=500&state=${encodeURIComponent(view)}`), view, p.version);
  const [at, setAt] = useState(0);
  const [failed, setFailed] = useState<unknown>();
  const shown = (data?.items ?? []).filter((i) => `${i.workload} ${i.summary} ${i.container.name} ${i.findings.map((f) => f.detector).join(" ")}`.toLowerCase().includes(search.toLowerCase()));
  const here = Math.min(at, Math.max(0, shown.length - 1)), current = shown[here];

  useLayoutEffect(() => { // at once: the next key may follow soon
    const key = (e: KeyboardEvent) => {
      if (typing(e)) return;
      if (e.key === "j") setAt(Math.min(here + 1, shown.length - 1));
      else if (e.key === "k") setAt(Math.max(here - 1, 0));
      else if (e.key === "Enter" && current && !(e.target instanceof HTMLAnchorElement || e.target instanceof HTMLButtonElement)) go(`/incidents/${current.id}`);
      else if (e.key === "x" && current) go(`/incidents/${current.id}?do=allow`);
      else if (e.key === "a" && current?.state === "open") {
        post(`/incidents/${current.id}/ack`, { by: me() || "console" }).then(() => { setFailed(undefined); p.refresh(); }, setFailed);
      } else if (e.key === "/") { e.preventDefault(); document.querySelector<HTMLInputElement>("input[type=search]")?.focus(); }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  });
  useEffect(() => { document.querySelector(".inbox li[aria-current]")?.scrollIntoView({ block: "nearest" }); }, [here]);

  const address = (state: string, text: string) => {
    const next = new URLSearchParams();
    if (state !== "active") next.set("state", state);
    if (text) next.set("search", text);
    return "/" + (next.size ? "?" + next : "");
  };
  return (
    <>
      <h1 class="hidden">Inbox</h1>
      <Numbers version={p.version} />
      <div class="bar">
        <nav aria-label="Which incidents" class="tabs">
          {Object.entries(views).map(([state, word]) => <Link to={address(state, search)} current={state === view}>{word}</Link>)}
        </nav>
        <input type="search" aria-label="Search in what is listed" placeholder="Search ( / )" value={search}
          onInput={(e) => go(address(view, e.currentTarget.value), true)} />
      </div>
      <Oops error={error ?? failed} />
      {data && shown.length === 0 && (search ? <Empty title="Nothing matches"><p>No incident of this list speaks of “{search}”.</p></Empty> : <Calm view={view} version={p.version} />)}
      <ol class="inbox" aria-label="Incidents">
        {shown.map((i, n) => (
          <li key={i.id} aria-current={n === here ? "true" : undefined} class={`${i.severity} ${i.state}`}>
            <Severity level={i.severity} />
            <div>
              <Link to={`/incidents/${i.id}`}>{i.summary}</Link>
              <p><span class="workload">{i.workload}</span> · <When at={i.last_seen} /> · sure {percent(i.confidence)} {[...new Set(i.findings.map((f) => f.detector))].map((d) => <Chip>{d}</Chip>)}</p>
            </div>
            <Chip kind={i.state}>{i.verdict ?? i.state}</Chip>
          </li>
        ))}
      </ol>
      {data?.more && <p class="note">These are the first 500. <code>wharfwatch incidents list</code> shows all.</p>}
    </>
  );
}

export const typing = (e: KeyboardEvent) => e.ctrlKey || e.metaKey || e.altKey || document.querySelector("dialog[open]") !== null ||
  (e.target instanceof HTMLElement && /^(INPUT|TEXTAREA|SELECT)$/.test(e.target.tagName));

// Calm says why nothing is listed, and what to do if that is wrong.
function Calm(p: { view: string; version: number }) {
  const { data } = useLoad(() => list<Check>("/doctor"), "calm", p.version);
  const trouble = data?.items.filter((c) => c.state === "fail" || c.state === "warn") ?? [];
  return (
    <Empty title={p.view === "closed" ? "Nothing is closed yet" : "Nothing is open"}>
      {p.view !== "closed" && trouble.length === 0 && <p>Whatever a container does that is not normal for it appears here, by itself. <code>wharfwatch demo</code> shows what that looks like.</p>}
      {trouble.length > 0 && <><p>Part of it may be that not everything is seen:</p>
        <ul>{trouble.slice(0, 5).map((c) => <li><strong>{c.what}</strong>: {c.reason}{c.fix && <>; <em>{c.fix}</em></>}</li>)}</ul></>}
      <p><Link to="/sources">What is seen, and why not</Link></p>
    </Empty>
  );
}

function Numbers(p: { version: number }) {
  const sources = useLoad(() => list<Source>("/sources"), "sources", p.version).data?.items;
  const workloads = useLoad(() => list<Workload>("/workloads"), "workloads", p.version).data?.items;
  const open = useLoad(() => get<{ items: Incident[] }>("/incidents?state=open&limit=1000"), "open", p.version).data?.items;
  const bad = sources?.filter((s) => s.state === "fail" || s.state === "warn").length ?? 0, heard = sources?.filter((s) => s.state === "ok").length;
  const learning = workloads?.filter((w) => w.learning).length ?? 0;
  const next = Math.min(...(workloads ?? []).filter((w) => w.learning && w.ready_at > Date.now() * 1e6).map((w) => w.ready_at));
  return (
    <div class="numbers">
      <Link to="/"><b>{open?.length ?? "…"}</b> open{open?.some((i) => i.severity === "critical" || i.severity === "high") ? `, ${open.filter((i) => i.severity === "critical" || i.severity === "high").length} high or critical` : ""}</Link>
      <Link to="/sources"><b>{heard ?? "…"}</b> sources heard{bad > 0 && <em>, {bad} to look at</em>}</Link>
      <Link to="/workloads"><b>{workloads ? workloads.length - learning : "…"}</b> of {workloads?.length ?? "…"} workloads ready</Link>
      <Link to="/workloads?learning=true"><b>{learning}</b> learning{isFinite(next) && <>, next <When at={next} /></>}</Link>
    </div>
  );
}
