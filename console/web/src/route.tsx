// Every view has an address; links stay links.
import type { ComponentChildren } from "preact";

let moved = () => {};
export function onMove(f: () => void) { moved = f; }

export function go(to: string, replace = false) {
  if (to === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", to);
  if (!replace) scrollTo(0, 0);
  moved();
}

export function Link(p: { to: string; class?: string; children: ComponentChildren; current?: boolean; label?: string }) {
  return (
    <a href={p.to} class={p.class} aria-current={p.current ? "page" : undefined} aria-label={p.label} onClick={(e) => {
      if (e.ctrlKey || e.metaKey || e.shiftKey || e.button !== 0) return;
      e.preventDefault();
      go(p.to);
    }}>{p.children}</a>
  );
}
