// The Markdown of the detections' pages: headings, paragraphs, lists, tables, code, bold. What else there is stays text.
import type { VNode } from "preact";

function inline(text: string): (VNode | string)[] {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)]+\))/).map((part) => {
    if (part.startsWith("`")) return <code>{part.slice(1, -1)}</code>;
    if (part.startsWith("**")) return <strong>{part.slice(2, -2)}</strong>;
    const link = /^\[([^\]]+)\]\((https:[^)]+)\)$/.exec(part);
    if (link) return <a href={link[2]} rel="noreferrer">{link[1]}</a>;
    return part;
  });
}

const cells = (line: string) => line.replace(/^\||\|\s*$/g, "").split("|").map((c) => c.trim());

export function Markdown(p: { text: string }) {
  const lines = p.text.split("\n"), out: VNode[] = [];
  for (let i = 0; i < lines.length;) {
    const line = lines[i] ?? "", rest = () => lines[i] ?? "";
    const take = (while_: (l: string) => boolean) => { const from = i; while (i < lines.length && while_(rest())) i++; return lines.slice(from, i); };
    const heading = /^(#+) (.*)/.exec(line);
    if (heading) {
      const H = (["h1", "h2", "h3", "h4"] as const)[Math.min(3, (heading[1] ?? "").length - 1)]!;
      out.push(<H>{inline(heading[2] ?? "")}</H>);
      i++;
    } else if (line.startsWith("```")) {
      i++;
      out.push(<pre>{take((l) => !l.startsWith("```")).join("\n")}</pre>);
      i++;
    } else if (/^ {4}\S/.test(line)) {
      out.push(<pre>{take((l) => /^( {4}|$)/.test(l)).map((l) => l.slice(4)).join("\n").trimEnd()}</pre>);
    } else if (line.startsWith("|")) {
      const [head, , ...rows] = take((l) => l.startsWith("|"));
      out.push(<div class="scroll"><table><thead><tr>{cells(head ?? "").map((c) => <th>{inline(c)}</th>)}</tr></thead>
        <tbody>{rows.map((r) => <tr>{cells(r).map((c) => <td>{inline(c)}</td>)}</tr>)}</tbody></table></div>);
    } else if (/^([-*]|\d+\.) /.test(line)) {
      const items: string[] = [], ordered = /^\d/.test(line);
      for (const l of take((l) => /^([-*]|\d+\.) |^ +\S/.test(l))) {
        if (/^\s/.test(l)) items[items.length - 1] += " " + l.trim();
        else items.push(l.replace(/^([-*]|\d+\.) /, ""));
      }
      const L = ordered ? "ol" : "ul";
      out.push(<L>{items.map((t) => <li>{inline(t)}</li>)}</L>);
    } else if (line.trim() === "") {
      i++;
    } else {
      out.push(<p>{inline(take((l) => l.trim() !== "" && !/^(#|\||```|[-*] )/.test(l)).join(" ") || (i++, line))}</p>);
    }
  }
  return <div class="markdown">{out}</div>;
}

// section is the text below a second-level heading.
export function section(text: string, heading: string): string {
  const all = text.split(/^## /m).find((s) => s.toLowerCase().startsWith(heading.toLowerCase() + "\n"));
  return all ? all.slice(all.indexOf("\n") + 1).trim() : "";
}
