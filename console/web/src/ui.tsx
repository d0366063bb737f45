// What several pages share.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ago, stamp } from "./format";
import { Problem, type Severity as Level } from "./api";

const shapes: Record<Level, string> = { // by shape and word, not by colour alone
  critical: "M8 1 15 8 8 15 1 8Z", high: "M8 2 15 14 1 14Z", medium: "M2 2H14V14H2Z", low: "M8 2a6 6 0 1 0 .01 0Z", info: "M7 2H9V14H7Z",
};

export function Severity(p: { level: Level }) {
  return (
    <span class={`severity ${p.level}`}>
      <svg viewBox="0 0 16 16" width="12" height="12" aria-hidden="true"><path d={shapes[p.level]} /></svg>{p.level}
    </span>
  );
}

export const Chip = (p: { kind?: string; children: ComponentChildren }) => <span class={`chip ${p.kind ?? ""}`}>{p.children}</span>;

// When shows how long ago, and exactly on hover.
export const When = (p: { at: string | number }) => <time title={stamp(p.at)} dateTime={typeof p.at === "string" ? p.at : undefined}>{ago(p.at)}</time>;

export const Empty = (p: { title: string; children?: ComponentChildren }) => <div class="empty"><h2>{p.title}</h2>{p.children}</div>;

export const Oops = (p: { error: unknown }) => p.error ? <p class="problem" role="alert">{p.error instanceof Error ? p.error.message : String(p.error)}</p> : null;

// useLoad loads when what changes, and again when version does; the old stays while the new comes.
export function useLoad<T>(load: () => Promise<T>, what: string, version: number): { data?: T; error?: unknown } {
  const [state, set] = useState<{ what: string; data?: T; error?: unknown }>({ what });
  useEffect(() => {
    let here = true;
    load().then((data) => here && set({ what, data }), (error) => here && set((s) => ({ what, data: s.what === what ? s.data : undefined, error })));
    return () => { here = false; };
  }, [what, version]);
  return state.what === what ? state : {};
}

// Dialog is a form over the page: Escape and Cancel leave it.
export function Dialog(p: { title: string; action: string; children: ComponentChildren; onSubmit: (f: FormData) => Promise<void>; onClose: () => void; disabled?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(false);
  useEffect(() => { ref.current?.showModal(); }, []);
  return (
    <dialog ref={ref} aria-labelledby="dialog-title" onClose={p.onClose}>
      <form onSubmit={async (e) => {
        e.preventDefault();
        const data = new FormData(e.currentTarget as HTMLFormElement);
        setBusy(true);
        try { await p.onSubmit(data); ref.current?.close(); } catch (e) { setError(e); } finally { setBusy(false); }
      }}>
        <h2 id="dialog-title">{p.title}</h2>
        {p.children}
        <Oops error={error} />
        <div class="buttons">
          <button type="submit" class="primary" disabled={busy || p.disabled}>{p.action}</button>
          <button type="button" onClick={() => ref.current?.close()}>Cancel</button>
        </div>
      </form>
    </dialog>
  );
}

// me is the name under which changes are made where nobody logs in.
export const me = () => localStorage.getItem("name") ?? "";

export function Name(p: { session: string }) {
  if (p.session) return null;
  return <label>Your name, for the history<input name="by" maxLength={64} autocomplete="name" value={me()} onChange={(e) => localStorage.setItem("name", e.currentTarget.value)} /></label>;
}

export const forbidden = (e: unknown) => e instanceof Problem && e.status === 403;
