import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, listen, onLoggedOut, Problem, type Session } from "./api";
import { Inbox, typing } from "./inbox";
import { IncidentPage } from "./incident";
import { About, DetectionPage, dress, Login, Rules, Sources, Workloads } from "./pages";
import { go, Link, onMove } from "./route";
import { Empty, Oops } from "./ui";

const pages = [["/", "Inbox"], ["/workloads", "Workloads"], ["/sources", "Sources"], ["/rules", "Rules"], ["/about", "About"]] as const;

function App() {
  const [, move] = useState(0);
  const [version, setVersion] = useState(0);
  const [session, setSession] = useState<Session>();
  const [away, setAway] = useState(false); // a login is needed
  const [error, setError] = useState<unknown>();
  const [live, setLive] = useState(true);
  const refresh = () => setVersion((v) => v + 1);

  useEffect(() => {
    onMove(() => move((n) => n + 1));
    onLoggedOut(() => setAway(true));
    addEventListener("popstate", () => move((n) => n + 1));
    addEventListener("keydown", (e) => { if (e.key === "?" && !typing(e)) go("/about"); });
    get<Session>("/session").then(setSession, (e) => { if (!(e instanceof Problem && e.status === 401)) setError(e); });
    const every = setInterval(refresh, 30_000); // what has no events: sources, learning
    return () => clearInterval(every);
  }, []);
  useEffect(() => (session && !away ? listen(refresh, setLive) : undefined), [session, away]);

  if (away) return <main><Login done={(s) => { setSession(s); setAway(false); refresh(); }} /></main>;
  if (!session) return <main><Oops error={error} /></main>;
  const path = location.pathname, [, kind, id] = path.split("/");
  const common = { version, session, refresh };
  const top = pages.find(([to]) => to === path)?.[1];
  if (top) document.title = `${top} · Wharfwatch`;
  return (
    <>
      <header class="top">
        <Link to="/" class="brand"><svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true"><path d="M5 20h22M8 20v-6h5v6m1 0V11h5v9m1 0v-6h4v6M5 26q2.75-3 5.5 0t5.5 0 5.5 0 5.5 0" /></svg><span>Wharfwatch</span></Link>
        <nav aria-label="Pages">{pages.map(([to, word]) => <Link to={to} current={to === path || to === "/" && kind === "incidents"}>{word}</Link>)}</nav>
        <span role="status" class={live ? "live" : "live off"}>{live ? "live" : "not live"}</span>
      </header>
      <main>
        {path === "/" ? <Inbox {...common} />
          : kind === "incidents" && id ? <IncidentPage key={id} id={decodeURIComponent(id)} {...common} />
            : path === "/workloads" ? <Workloads version={version} />
              : path === "/sources" ? <Sources version={version} />
                : path === "/rules" ? <Rules version={version} refresh={refresh} />
                  : kind === "detections" && id ? <DetectionPage key={id} id={decodeURIComponent(id)} />
                    : path === "/about" ? <About session={session} leave={() => setAway(true)} />
                      : <Empty title="No such page"><p><Link to="/">Inbox</Link></p></Empty>}
      </main>
    </>
  );
}

dress();
render(<App />, document.getElementById("app")!);
