// What is wrong, where, and what to do about it: an RFC 9457 document as a person reads it.

import { make } from "./dom.js";

export function describe(problem) {
  const lines = [make("p", {}, make("strong", {}, `${problem.title}.`), ` ${problem.detail || ""}`)];
  if (problem.line) {
    const column = problem.column ? `, column ${problem.column}` : "";
    lines.push(make("p", {}, `Line ${problem.line}${column}.`));
  }
  if (Array.isArray(problem.lines) && problem.lines.length > 1) {
    lines.push(make("p", {}, `Bad rows in lines ${problem.lines.join(", ")}.`));
  }
  if (problem.hint) lines.push(make("p", {}, `What to do: ${problem.hint}${/[.?!]$/.test(problem.hint) ? "" : "."}`));
  if (problem.code === "unauthorized") {
    lines.push(make("p", {}, make("a", { href: "/ingest" }, "Sign in again")));
  }
  if (problem.code) {
    lines.push(make("p", { class: "headrace-help" }, "Code: ", make("code", {}, problem.code)));
  }
  return lines;
}

// What was answered, as a problem document; also where a proxy answered with a page of its own.
export async function read(response) {
  if ((response.headers.get("Content-Type") || "").startsWith("application/problem+json")) {
    return response.json();
  }
  return { title: "The answer cannot be understood", detail: `It has the status ${response.status}.` };
}

export const away = {
  title: "The server cannot be reached",
  detail: "No answer came.",
  hint: "look at your connection, and try again",
};
