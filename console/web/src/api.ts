// The API as docs/reference/openapi.json describes it, as far as the pages use it.

export type Severity = "info" | "low" | "medium" | "high" | "critical";
export type State = "open" | "acknowledged" | "closed";

export interface Finding {
  id: string; detector: string; time: string; subject: string; score: number; severity: Severity; learning: boolean; summary: string;
  attack: string[]; evidence: Record<string, unknown>; last_seen?: string; count?: number; generation?: number; allowed?: number;
}
export interface Incident {
  id: string; state: State; verdict?: string; severity: Severity; confidence: number; first_seen: string; last_seen: string; workload: string;
  container: { id: string; name: string; image: string }; summary: string; attack: string[];
  attribution: { method: string; confidence: string }; findings: Finding[]; generation: number; count: number; quiet?: number; omitted?: number;
}
export interface Audit { seq: number; at: string; who: string; incident?: string; what: string; why?: string }
export interface Delivery { id: string; receiver: string; transition: string; state: string; status?: number; reason?: string; created: string; last?: string }
export interface Card extends Incident { silenced_until?: string; history: Audit[]; deliveries: Delivery[] }
export interface Rule {
  id: number; workload?: string; detector?: string; destination?: string; port?: number; direction?: string; subject?: string;
  owner: string; comment: string; created: string; expires?: string; hits: number; last_hit?: string;
}
export interface Silence { id: number; matchers: { label: string; op: string; value: string }[]; starts: string; ends: string; author: string; comment: string }
export interface Container {
  id: string; name: string; engine: string; workload: string; image: string; started?: number; running: boolean; network_mode?: string;
  posture?: Record<string, unknown>;
}
export interface Workload { workload: string; first_seen: number; last_seen: number; learning: boolean; ready_at: number; containers: string[] | null }
export interface Source {
  name: string; kind: string; state: string; reason?: string; fix?: string; last_seen?: number; records?: number; dropped?: number;
  missing_templates?: number; sampling?: number;
}
export interface Check { state: string; what: string; reason: string; fix?: string }
export interface Coverage { workload: string; detector: string; state: string; reason: string; fix?: string }
export interface Detection { id: string; title: string; text: string }
export interface Session { name: string; scope: "nobody" | "read" | "triage" | "admin"; login: boolean }

// Problem is what the API refuses with: for people, and says what to do.
export class Problem extends Error {
  constructor(readonly status: number, detail: string) { super(detail); }
}

let loggedOut = () => {};

// onLoggedOut is called when a request needs a login.
export function onLoggedOut(f: () => void) { loggedOut = f; }

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  let r: Response;
  try {
    r = await fetch("/api/v1" + path, {
      method, credentials: "same-origin",
      ...(body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
    });
  } catch {
    throw new Problem(0, "the monitor does not answer: is it running?");
  }
  if (r.status === 204) return undefined as T;
  const answer = await r.json().catch(() => ({}));
  if (r.ok) return answer as T;
  if (r.status === 401 && !(method === "POST" && path === "/session")) loggedOut();
  throw new Problem(r.status, answer.detail ?? r.statusText);
}

export const get = <T>(path: string) => call<T>("GET", path);
export const post = <T>(path: string, body: unknown) => call<T>("POST", path, body);
export const remove = (path: string) => call<void>("DELETE", path);

export interface Page<T> { items: T[]; next?: string }

// list reads one page; more says that it is not the whole.
export async function list<T>(path: string): Promise<{ items: T[]; more: boolean }> {
  const page = await get<Page<T>>(path);
  return { items: page.items, more: page.next !== undefined };
}

// listen calls changed whenever incidents changed, at most every quarter of a second, and live with whether the monitor is heard.
export function listen(changed: () => void, live: (on: boolean) => void): () => void {
  let source: EventSource | undefined, timer = 0, again = 0;
  const soon = () => { if (!timer) timer = window.setTimeout(() => { timer = 0; changed(); }, 250); };
  const open = () => {
    source = new EventSource("/api/v1/events");
    let before = false;
    source.onopen = () => { live(true); if (before) soon(); before = true; };
    source.onerror = () => {
      live(false);
      if (source?.readyState === EventSource.CLOSED) again = window.setTimeout(() => { open(); soon(); }, 5000); // refused: browsers give up
    };
    source.addEventListener("incident", soon);
    source.addEventListener("resync", soon);
  };
  const stop = () => { clearTimeout(again); source?.close(); };
  const back = (e: PageTransitionEvent) => { if (e.persisted) { open(); soon(); } };
  open();
  addEventListener("pagehide", stop); // a page that the browser keeps must not keep one of its few connections
  addEventListener("pageshow", back);
  return () => { clearTimeout(timer); stop(); removeEventListener("pagehide", stop); removeEventListener("pageshow", back); };
}
